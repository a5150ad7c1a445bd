//! Tests that start the real parts of a node: registry, containerd, daemon.

mod parts;
