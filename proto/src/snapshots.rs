//! containerd's snapshots service (`containerd.services.snapshots.v1.Snapshots`): the server side.
//!
//! Messages are those of `containerd-client` (re-exported here), so that a test can talk to the server with that
//! crate's own client. Implement [`Snapshots`] and hand [`SnapshotsServer`] to a tonic server.

pub use containerd_client::services::v1::snapshots::*;
pub use containerd_client::types::Mount;

pub use self::snapshots_server::{Snapshots, SnapshotsServer};

/// Messages may be this long, both ways: containerd's own limit (16 MiB), above tonic's default of 4 MiB.
pub const MESSAGE_LEN_MAX: usize = 16 << 20;

tonic::include_proto!("containerd.services.snapshots.v1");

#[cfg(test)]
mod tests;
