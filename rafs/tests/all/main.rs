//! Tests of the whole crate: what is written is read back, whatever is read is answered.

mod model;
mod round_trip;
