//! `slipway` from the outside: images made here, converted, checked, listed and unpacked.

mod against;
mod archive;
mod bootstrap_file;
mod commands;
mod damage;
mod fixture;
mod hints;
mod inspect;
mod interrupt;
mod lessons;
mod lost;
mod packing;
mod place;
mod restore;
mod round_trip;
mod sources;
mod whole_blob;

#[path = "../../../rafs/tests/all/second.rs"]
mod second;
