//! Tests of the whole crate: what is written is read back, whatever is read is answered.

mod blob_check;
mod bomb;
mod damage;
mod disregarded;
mod dump;
mod fixture;
mod form;
mod forms;
mod hostile_blob;
mod model;
mod mutation;
mod own_blob;
mod random;
mod round_trip;
mod second;
