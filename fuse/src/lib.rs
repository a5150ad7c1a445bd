//! Serving: the FUSE session, the chunk cache and the fetch engine.
//!
//! | room | holds |
//! |---|---|
//! | [`source`] | where blobs come from |
//! | [`server`] | the FUSE session of a node and the images in it |
//! | `image` | the images being served, and what the kernel still knows of them |
//! | `tree` | numbers, attributes and names, over those images |
//! | `session`, `mount`, `errno` | what the kernel sees of the tree |
//! | `fetch` | one fetch per unit: flight, plan, cut, chunk infos |
//! | `decode` | from stored bytes to content whose digest was checked |
//! | `device` | blobs as devices, laid out by an image's chunk table |
//! | `erofs` | images as mounts of the kernel's EROFS |
//! | `cache` | chunks on disk, with what is known of them |
//! | [`mountinfo`] | the kernel's list of mounts |
//! | `mapping` | memory maps |
//! | `sync` | locks and channels, the real ones or those of a model checker |
//!
//! A read looks up its chunks in `tree`. If `cache` has them all it is answered at once; else `fetch` waits for them
//! on a tokio runtime, and the session's thread goes on to the next request.

mod cache;
mod decode;
mod device;
mod erofs;
mod errno;
mod fetch;
#[cfg(test)]
mod fixture;
mod image;
mod mapping;
mod mount;
pub mod mountinfo;
pub mod server;
mod session;
pub mod source;
mod sync;
mod tree;

pub use cache::account::{CacheLimits, CacheStatus, SizeMax};
pub use fetch::Filler;
pub use server::{
    CacheMeter, DataPath, ImageId, ImageSpec, ImageStatus, Server, ServerConfig, Tier, TierChoice,
};
pub use session::{Connection, known_features};
pub use source::BlobSource;
