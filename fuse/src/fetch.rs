//! One fetch per chunk: flight, plan, decode.
