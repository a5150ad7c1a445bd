//! Tests of the whole crate: what is written is read back, whatever is read is answered.

mod fixture;
mod model;
mod mutation;
mod round_trip;
