//! The test harness: real containerd, real registry, oracles and end-to-end tests.
//!
//! | room | holds |
//! |---|---|
//! | [`scene`] | the stage of a test: a folder, and the promise that nothing stays behind |
//! | [`process`], [`wait`], [`port`], [`mounts`] | children, waiting for facts, loopback ports, the mount table |
//! | [`registry`], [`containerd`], [`slipwayd`], [`slipway`], [`cri`] | the real parts, private to a scene |
//! | [`client`] | the snapshots service asked directly |
//! | [`node`] | all of them on one stage |
//! | [`meter`] | a counting relay: what really went over the wire |
//! | [`origin`] | a registry that fails in every way a test asks for |
//! | [`wire`] | a line of a known rate |
//! | [`usage`] | what a process has used |
//! | [`reader`], [`evictor`] | programs that read while daemons die, or die while they evict |
//! | [`binaries`] | the workspace's own programs |
//! | [`image`] | test images, made in code or from Debian packages |
//! | [`userns`] | a user namespace, and mounts with ids that it maps |
//! | [`unpack`], [`erofs`] | independent readers: umoci, GNU tar, the kernel |
//! | [`served`] | images served by the test itself |
//! | [`compare`], [`listing`] | two trees, path by path; a tree as lines of JSON |
//! | [`mod@reference`] | images that another implementation wrote |
//! | [`mod@bench`] | what is measured, and against what |
//! | [`fuzz`] | what must hold for hostile input, target by target |
//! | [`demo`] | the whole path, told step by step |

pub mod bench;
pub mod binaries;
pub mod client;
pub mod compare;
pub mod containerd;
pub mod cri;
pub mod demo;
pub mod erofs;
pub mod evictor;
pub mod fuzz;
pub mod image;
pub mod listing;
pub mod meter;
pub mod mounts;
pub mod node;
pub mod origin;
pub mod port;
pub mod process;
pub mod reader;
pub mod reference;
pub mod registry;
pub mod scene;
pub mod served;
pub mod slipway;
pub mod slipwayd;
pub mod unpack;
pub mod usage;
pub mod userns;
pub mod wait;
pub mod wire;
