//! Batch work: OCI images to RAFS and back, and the `slipway` command.
