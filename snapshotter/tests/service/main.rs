//! The snapshots service over a unix socket, with containerd's own client and real mounts. Needs root.

mod conformance;
mod containerd;
mod content;
mod harness;
mod lazy;
mod listing;
