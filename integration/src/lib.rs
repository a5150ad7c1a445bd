//! The test harness: real containerd, real registry, oracles and end-to-end tests.
