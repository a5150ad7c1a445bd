//! Tests that start the real parts of a node: registry, containerd, daemon.

mod composition;
mod crash;
mod faults;
mod fill;
mod lazy;
mod mapped;
mod parts;
mod pods;
mod restart;
mod scale;
mod trim;
mod upgrade;

use std::io::Write;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use integration::node::{Node, Settings};
use integration::scene::Scene;

/// A node whose reads wait for the registry as long as nodes in the field would.
fn node() -> Node {
    Node::start(Arc::new(Scene::create().unwrap()), Duration::from_secs(30)).unwrap()
}

/// The same, with images that reach the kernel one way only: `erofs` or `fuse`.
fn node_on(data_path: &'static str) -> Node {
    let settings = Settings {
        data_path,
        ..Settings::default()
    };
    Node::start_with(Arc::new(Scene::create().unwrap()), &settings).unwrap()
}

/// A number from the environment, or the one for the ordinary suite.
pub(crate) fn setting<T: FromStr>(name: &str, ordinary: T) -> T {
    let set = std::env::var(name).ok();
    set.map_or(Some(ordinary), |text| text.parse().ok())
        .unwrap_or_else(|| panic!("{name} is no number"))
}

/// Tells a figure to whoever runs the tests.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{line}").unwrap();
}
