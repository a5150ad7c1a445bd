//! Serving: the FUSE session, the chunk cache and the fetch engine.
//!
//! | room | holds |
//! |---|---|
//! | [`source`] | where blobs come from |
//! | [`cache`] | chunks on disk, with what is known of them |
//! | [`fetch`] | one fetch per chunk: flight, plan, decode |
//! | [`server`] | the FUSE session of a node and the images in it |

pub mod cache;
pub mod fetch;
pub mod server;
pub mod source;

pub use server::{ImageId, ImageSpec, ImageStatus, Server, ServerConfig};
pub use source::BlobSource;
