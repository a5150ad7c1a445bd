//! Batch work: OCI images to RAFS and back, and the `slipway` command.
//!
//! | room | holds |
//! |---|---|
//! | [`convert`] | conversion: layers in parallel, one merge, the manifest |
//! | [`restore`] | back to a plain image |
//! | [`opened`], [`walk`] | a RAFS image opened for reading, and all its paths |
//! | [`against`] | comparing a RAFS image with its original |
//! | [`check`], [`inspect`], [`listing`], [`unpack`] | what is done with it |
//! | [`tarball`] | reading tar streams exactly |
//! | [`layer`] | one layer as a list of changes |
//! | [`overlay`] | laying layers over each other |
//! | [`prefetch`] | what is to be fetched ahead, from patterns and lists |
//! | [`origin`] | finding the image to convert |
//! | [`progress`] | what a conversion tells while it runs |
//! | [`error`] | why any of it fails |

#![forbid(unsafe_code)]

pub mod against;
pub mod check;
pub mod convert;
mod decompress;
pub mod error;
mod fetch;
pub mod inspect;
pub mod layer;
pub mod listing;
mod manifest;
mod name;
pub mod opened;
pub mod origin;
pub mod overlay;
mod pack;
mod pipe;
pub mod prefetch;
pub mod progress;
pub mod restore;
pub mod tarball;
mod task;
pub mod unpack;
pub mod walk;

pub use error::Error;
pub use name::CleanPath;
pub use pack::{ChunkOptions, Layout};
