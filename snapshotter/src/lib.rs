//! Policy: the containerd snapshotter, its store, and the `slipwayd` command.
//!
//! A call from containerd passes these rooms:
//!
//! | room | holds |
//! |---|---|
//! | [`service`] | the gRPC service: messages in, messages out; [`status`] maps errors to codes |
//! | [`engine`] | what each call does |
//! | [`plan`] | the decision for a new snapshot, from [`label`]s and ancestors alone |
//! | [`store`] | the database: one transaction per call |
//! | [`mount`] | lists of mounts for containerd to perform |
//! | [`image`] | the images being served; [`mounter`] makes one visible, [`source`] has their blobs |
//! | [`background`] | work that no call waits for |
//! | [`cleanup`], [`usage`], [`filter`], [`layout`] | folders taken back, space measured, `List` filters, places on disk |
//!
//! Around them: [`config`] (the file), [`daemon`] (start, listen, stop), [`keeper`] (what outlives a daemon), [`upgrade`] (going on as another version), [`control`] (what operators ask),
//! [`resolve`] (an image by name), [`pull`] (for clients whose own pull tells a snapshotter nothing), [`containerd_config`] (what to add to containerd's configuration),
//! [`cri`] (the kubelet's image service, passed on), [`memory`] (how the allocator is set).

pub mod background;
pub mod cleanup;
pub mod config;
pub mod containerd_config;
pub mod control;
pub mod cri;
pub mod daemon;
pub mod engine;
mod error;
pub mod filter;
pub mod image;
pub mod keeper;
pub mod label;
pub mod layout;
pub mod memory;
pub mod mount;
pub mod mounter;
pub mod plan;
pub mod pull;
pub mod resolve;
pub mod service;
pub mod source;
pub mod status;
pub mod store;
pub mod upgrade;
pub mod usage;

pub use daemon::Daemon;
pub use error::{Error, Result};
