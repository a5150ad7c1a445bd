//! RAFS v6, the EROFS-compatible image format: reading and writing, nothing else.
//!
//! The crate is pure: no I/O, no threads, no logging, no unsafe code. Callers bring bytes (a mapped file, a
//! vector) and take bytes away.
//!
//! | room | holds |
//! |---|---|
//! | [`layout`] | the structures as they lie on disk |
//! | [`image`] | reading a bootstrap: superblock, tables, inodes, directories, extents |
//! | [`tree`] | a file system in memory, what a writer starts from |
//! | [`build`] | writing a bootstrap from a tree |
//! | [`blob`] | the file that holds chunks: its builder, its chunk infos, its table of contents, units that chunks share |
//! | [`hints`] | what of an image is worth fetching before anybody asks |
//! | [`chunk`] | one chunk: its digest, its codec, its place |

#![forbid(unsafe_code)]

pub mod blob;
pub mod build;
pub mod chunk;
pub mod hints;
pub mod image;
pub mod layout;
pub mod tree;
mod xattr;

pub use chunk::{BlobIndex, ChunkRef, Codec, Compressor, Digest, Digester, Span};
pub use image::{Error, Image, Inode, Nid};
pub use tree::{FileType, Timestamp, Tree};
