//! The test harness: real containerd, real registry, oracles and end-to-end tests.
//!
//! | room | holds |
//! |---|---|
//! | [`scene`] | the stage of a test: a folder, and the promise that nothing stays behind |
//! | [`process`], [`wait`], [`port`], [`mounts`] | children, waiting for facts, loopback ports, the mount table |
//! | [`registry`], [`containerd`] | the real parts, private to a scene |
//! | [`meter`] | a counting relay: what really went over the wire |
//! | [`binaries`] | the workspace's own programs |
//! | [`image`] | test images, made in code or from Debian packages |
//! | [`unpack`] | independent unpackers: umoci, GNU tar |
//! | [`compare`] | two trees, path by path |

pub mod binaries;
pub mod compare;
pub mod containerd;
pub mod image;
pub mod meter;
pub mod mounts;
pub mod port;
pub mod process;
pub mod registry;
pub mod scene;
pub mod unpack;
pub mod wait;
