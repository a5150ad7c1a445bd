//! Images that become complete by themselves once a container uses them.

use std::sync::Arc;
use std::time::Duration;

use integration::image::debian;
use integration::node::{Node, Settings};
use integration::scene::Scene;
use integration::wait;
use serde_json::Value;

/// How long an image may take to become complete, also when the machine is busy.
const COMPLETE_DEADLINE: Duration = Duration::from_secs(120);

fn number(image: &Value, key: &str) -> u64 {
    image[key].as_u64().unwrap()
}

#[test]
fn an_image_in_use_becomes_complete_and_runs_without_its_registry() {
    let settings = Settings {
        fill: "auto",
        ..Settings::default()
    };
    let mut node = Node::start_with(Arc::new(Scene::create().unwrap()), &settings).unwrap();
    let layout = debian::image().unwrap();
    let reference = node.offer_converted(&layout, debian::TAG, "python:rafs").unwrap();
    node.pull_lazily(&reference).unwrap();
    let image = |node: &Node| node.slipwayd.image(&reference).unwrap();
    // One that was only pulled stays where it is.
    assert!(image(&node).is_none_or(|image| number(&image, "fetched_bytes") == 0));
    node.run(&reference, &["/bin/true"]).unwrap();
    let complete = wait::until(COMPLETE_DEADLINE, "the image to be complete", || {
        image(&node).filter(|image| number(image, "local_bytes") >= number(image, "needed_bytes"))
    })
    .unwrap();
    assert!(
        number(&complete, "fill_bytes") > 0 && number(&complete, "demand_bytes") > 0,
        "{complete}"
    );
    node.registry.kill();
    let said = node
        .run(&reference, &["/usr/bin/python3", debian::PROGRAM_PATH])
        .unwrap();
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["trace"], 12.0);
    let after = image(&node).unwrap();
    assert_eq!(after["read_error_count"], 0);
    assert_eq!(
        number(&after, "fetched_bytes"),
        number(&complete, "fetched_bytes")
    );
}
