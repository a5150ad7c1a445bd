//! Test images as OCI layout folders: made in code, or of Debian packages and then kept in a cache.
//!
//! | room | holds |
//! |---|---|
//! | [`layer`] | one layer's tar, entry by entry, with everything a tar can say |
//! | [`layout`] | a layout folder: blobs, config, manifest, index |
//! | [`compose`] | layers for an overlay to compose, and files for programs to change |
//! | [`edge`] | every kind of inode and every way a layer can change another |
//! | [`huge`] | a file beyond 4 GiB and a directory of 100,000 names |
//! | [`bulk`] | many files that do not shrink, of which a program reads some |
//! | [`busybox`] | a container that runs, in a megabyte |
//! | [`debian`] | a real one: Debian with Python and NumPy |
//! | [`single`] | one large file, without layers or converter |
//! | [`steady`] | a tree for readers that go on while daemons die |
//! | [`cache`] | where costly images are kept between runs |

pub mod bulk;
pub mod busybox;
pub mod cache;
pub mod compose;
pub mod debian;
pub mod edge;
pub mod huge;
pub mod layer;
pub mod layout;
pub mod single;
pub mod steady;
