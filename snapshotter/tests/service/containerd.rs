//! `pull` and containers with a real containerd and a real registry. Whole nodes are tested in the integration crate.

mod image;
mod node;

use std::sync::Arc;

use proto::image::{Location, Options as SourceOptions};
use snapshotter::pull::{Error, Options, Pulled, Silent, pull};
use tokio_util::sync::CancellationToken;

use self::node::Node;

impl Node {
    async fn pull(&self, name: &str, snapshotter: &str) -> Result<Pulled, Error> {
        let options = Options {
            address: self.containerd_socket(),
            namespace: "default".into(),
            snapshotter: snapshotter.into(),
            source: SourceOptions::default(),
            platform: proto::image::Platform::host(),
        };
        let location: Location = self.reference(name).parse().unwrap();
        pull(&location, &options, Arc::new(Silent), &CancellationToken::new()).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_image_is_pulled_and_runs() {
    let node = Node::start().await;
    let digest = image::push_plain(&node.reference("plain:1")).await;
    for _ in 0..2 {
        // The second time everything is there.
        let pulled = node.pull("plain:1", "slipway").await.unwrap();
        assert_eq!((pulled.remote_count, pulled.layer_count), (0, 2));
        assert_eq!(
            (pulled.name, pulled.digest),
            (node.reference("plain:1"), digest.clone())
        );
    }
    let image = node.reference("plain:1");
    let container = format!("plain-{}", node.port);
    let said = node
        .ctr(&[
            "run",
            "--rm",
            "--snapshotter",
            "slipway",
            &image,
            &container,
            "/bin/busybox",
            "cat",
            "/greeting",
        ])
        .await;
    assert_eq!(said, "hello\n");

    assert_eq!(node.harness.names(&["kind==committed"]).await.len(), 2);
    node.ctr(&["images", "rm", "--sync", &image]).await;
    assert!(node.harness.names(&[]).await.is_empty(), "removed with the image");
    let folders = std::fs::read_dir(node.harness.snapshots_dir()).unwrap().count();
    assert_eq!(folders, 0, "and their folders too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn layers_of_a_lazy_image_stay_in_the_registry() {
    let node = Node::start().await;
    image::push_lazy(&node.reference("lazy:1")).await;
    let pulled = node.pull("lazy:1", "slipway").await.unwrap();
    assert_eq!((pulled.remote_count, pulled.layer_count), (1, 2));
    let content = node.ctr(&["content", "ls", "-q"]).await;
    assert_eq!(
        content.lines().count(),
        3,
        "manifest, config and bootstrap layer:\n{content}"
    );

    let chain = node.harness.names(&["kind==committed"]).await;
    assert_eq!(chain.len(), 2, "{chain:?}");
    let top = node.ctr(&["snapshots", "--snapshotter", "slipway", "ls"]).await;
    let top = top
        .lines()
        .find(|line| !line.contains("KEY") && line.split_whitespace().count() == 3)
        .unwrap();
    let top = top.split_whitespace().next().unwrap();
    node.ctr(&[
        "snapshots",
        "--snapshotter",
        "slipway",
        "prepare",
        "container",
        top,
    ])
    .await;
    let mounted = node.harness.mounter.mounted.lock().unwrap().clone();
    assert_eq!(mounted.len(), 1);
    assert_eq!(mounted[0].reference, node.reference("lazy:1"));
    assert_eq!(
        std::fs::read_to_string(&mounted[0].bootstrap).unwrap(),
        "bootstrap"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_snapshotter_is_named() {
    let node = Node::start().await;
    image::push_plain(&node.reference("plain:1")).await;
    let error = node.pull("plain:1", "nobody").await.unwrap_err();
    assert!(
        matches!(&error, Error::NoSnapshotter(name) if name == "nobody"),
        "{error}"
    );
    let error = node.pull("none:1", "slipway").await.unwrap_err();
    assert!(error.to_string().contains("none"), "{error}");
}
