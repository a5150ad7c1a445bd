//! Tests that start the real parts of a node: registry, containerd, daemon.

mod composition;
mod faults;
mod lazy;
mod parts;
mod pods;

use std::sync::Arc;
use std::time::Duration;

use integration::node::Node;
use integration::scene::Scene;

/// A node whose reads wait for the registry as long as nodes in the field would.
fn node() -> Node {
    Node::start(Arc::new(Scene::create().unwrap()), Duration::from_secs(30)).unwrap()
}
