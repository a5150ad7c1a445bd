//! Lazily loaded images: layers that are skipped, the bootstrap that is unpacked, containers on top.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use proto::lazy::{BLOB_ANNOTATION, BOOTSTRAP_ANNOTATION, BOOTSTRAP_PATH};
use proto::snapshots::{Kind, Mount};
use snapshotter::label::*;
use tonic::Code;

use crate::harness::{Harness, refused};

const IMAGE: &str = "registry.example/app:1";

fn labels<'a>(reference: &'a str, mark: &'a str) -> [(&'a str, &'a str); 4] {
    [
        (SNAPSHOT_REF, reference),
        (CRI_IMAGE_REF, IMAGE),
        (CRI_MANIFEST_DIGEST, "sha256:m"),
        (mark, "true"),
    ]
}

/// What containerd asks after a layer was skipped.
async fn confirmed(harness: &Harness, reference: &str, parent: &str) -> Vec<String> {
    let filter = format!(r#"labels."{SNAPSHOT_REF}"=={reference},parent=={parent:?}"#);
    harness.names(&[&filter]).await
}

/// Prepares the bootstrap layer; `unpack` stands for containerd's unpacking.
async fn bootstrap(harness: &Harness, parent: &str, name: &str, unpack: impl FnOnce(&Path)) {
    let key = format!("extract {name}");
    let mounts = harness
        .prepare_with(&key, parent, &labels(name, BOOTSTRAP_ANNOTATION))
        .await
        .unwrap();
    assert_eq!(mounts[0].r#type, "bind", "the bootstrap is unpacked on its own");
    unpack(Path::new(&mounts[0].source));
}

fn good_bootstrap(root: &Path) {
    fs::create_dir(root.join("image")).unwrap();
    fs::write(root.join(BOOTSTRAP_PATH), "bootstrap").unwrap();
}

/// Two data layers and a bootstrap, as containerd's unpacker brings them in. Returns the bootstrap's name.
async fn pull(harness: &Harness, namespace: &str) -> String {
    for (reference, parent) in [("sha256:c0", ""), ("sha256:c1", "sha256:c0")] {
        let key = format!("{namespace}/1/extract {reference}");
        let outcome = harness
            .prepare_with(&key, parent, &labels(reference, BLOB_ANNOTATION))
            .await;
        assert_eq!(refused(outcome), Code::AlreadyExists);
        assert_eq!(confirmed(harness, reference, parent).await, [reference]);
        assert_eq!(refused(harness.stat(&key).await), Code::NotFound);
    }
    let name = format!("{namespace}/5/sha256:c2");
    bootstrap(harness, "sha256:c1", &name, good_bootstrap).await;
    harness.commit(&name, &format!("extract {name}")).await.unwrap();
    name
}

fn lowers(mounts: &[Mount]) -> Vec<String> {
    let lower = mounts[0]
        .options
        .iter()
        .find_map(|option| option.strip_prefix("lowerdir="));
    lower.unwrap().split(':').map(str::to_owned).collect()
}

#[tokio::test]
async fn a_container_stands_on_the_served_image() {
    let harness = Harness::start().await;
    let top = pull(&harness, "k8s.io").await;
    let data = harness.stat("sha256:c1").await.unwrap();
    assert_eq!(
        (data.kind(), data.parent.as_str()),
        (Kind::Committed, "sha256:c0")
    );
    assert_eq!(data.labels.len(), 4, "a skipped layer keeps all labels");
    assert!(
        harness.stat(&top).await.unwrap().labels.is_empty(),
        "the commit replaced them"
    );

    let mounts = harness.prepare("container", &top).await.unwrap();
    assert_eq!(lowers(&mounts).len(), 1);
    let root = harness.mount(&mounts);
    assert_eq!(fs::read_to_string(root.path().join("reference")).unwrap(), IMAGE);
    fs::write(root.path().join("new"), "").unwrap();
    assert_eq!(harness.mounts("container").await.unwrap(), mounts);
    drop(root);

    let view = harness.look(&top).await;
    assert_eq!(fs::read_to_string(view.path().join("reference")).unwrap(), IMAGE);
    assert!(fs::write(view.path().join("new"), "").is_err());
    assert_eq!(
        harness.mounter.mounted.lock().unwrap().len(),
        1,
        "the image is mounted once"
    );
}

#[tokio::test]
async fn layers_on_top_of_an_image_lie_above_it() {
    let harness = Harness::start().await;
    let top = pull(&harness, "k8s.io").await;
    harness
        .layer("own", &top, |root| fs::write(root.join("own"), "1").unwrap())
        .await;
    let mounts = harness.prepare("container", "own").await.unwrap();
    assert_eq!(lowers(&mounts).len(), 2);
    let root = harness.mount(&mounts);
    assert!(root.path().join("own").exists() && root.path().join("reference").exists());
}

#[tokio::test]
async fn a_second_namespace_shares_the_data_layers() {
    let harness = Harness::start().await;
    let first = pull(&harness, "k8s.io").await;
    let second = pull(&harness, "default").await;
    let data = harness.names(&[&format!(r#"labels."{BLOB_ANNOTATION}""#)]).await;
    assert_eq!(data, ["sha256:c0", "sha256:c1"]);
    harness.prepare("one", &first).await.unwrap();
    harness.prepare("two", &second).await.unwrap();
    harness.remove("one").await.unwrap();
    harness.remove(&first).await.unwrap();
    assert_eq!(
        refused(harness.remove("sha256:c1").await),
        Code::FailedPrecondition
    );
    harness.cleanup().await;
    assert_eq!(harness.mounter.unmounted.lock().unwrap().len(), 1);
    harness.mounts("two").await.unwrap();
}

#[tokio::test]
async fn an_image_is_served_with_its_commit_and_its_data_goes_with_its_removal() {
    let harness = Harness::start().await;
    let background = harness.engine.background();
    let first = pull(&harness, "k8s.io").await;
    let second = pull(&harness, "default").await;
    background.settled().await;
    assert_eq!(harness.mounter.mounted.lock().unwrap().len(), 2);
    let known = harness.engine.known_images().await.unwrap();
    // printf bootstrap | sha256sum
    let digest = "sha256:333c04dd151a2a6831c039cb9a651df29198be8a04e16ce861d4b6a34a11c954";
    assert_eq!(known[0].1.bootstrap_digest.as_deref(), Some(digest));
    // At start, when nothing was known yet.
    let reclaimed = || harness.mounter.reclaimed.lock().unwrap().clone();
    assert_eq!(reclaimed().len(), 1);

    harness.remove(&first).await.unwrap();
    harness.cleanup().await;
    background.settled().await;
    let kept: Vec<_> = known[1..]
        .iter()
        .map(|(_, snapshot)| {
            let folder = harness.snapshots_dir().join(snapshot.id.0.to_string());
            folder.join("fs").join(BOOTSTRAP_PATH)
        })
        .collect();
    assert_eq!(reclaimed()[1..], [kept]);
    // Nothing new is gone, so nothing is looked for.
    harness.cleanup().await;
    background.settled().await;
    assert_eq!(reclaimed().len(), 2);
    harness.stat(&second).await.unwrap();
}

#[tokio::test]
async fn many_prepares_of_one_layer_make_one_row() {
    let harness = Harness::start().await;
    let calls = (0..16).map(|index| {
        let harness = &harness;
        async move {
            let key = format!("extract {index}");
            harness
                .prepare_with(&key, "", &labels("sha256:c0", BLOB_ANNOTATION))
                .await
        }
    });
    for outcome in futures::future::join_all(calls).await {
        assert_eq!(refused(outcome), Code::AlreadyExists);
    }
    assert_eq!(harness.names(&[]).await, ["sha256:c0"]);
}

#[tokio::test]
async fn a_pull_without_the_image_name_says_what_to_configure() {
    let harness = Harness::start().await;
    for mark in [BLOB_ANNOTATION, BOOTSTRAP_ANNOTATION] {
        let sent = [(SNAPSHOT_REF, "sha256:c0"), (mark, "true")];
        let error = harness.prepare_with("key", "", &sent).await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition);
        for hint in [
            "disable_snapshot_annotations",
            "enable_remote_snapshot_annotations",
            "slipwayd pull",
        ] {
            assert!(error.message().contains(hint), "{error}");
        }
    }
    assert!(harness.names(&[]).await.is_empty());
    // Once the layer is known from another pull, the name is not needed.
    pull(&harness, "k8s.io").await;
    let sent = [(SNAPSHOT_REF, "sha256:c0"), (BLOB_ANNOTATION, "true")];
    assert_eq!(
        refused(harness.prepare_with("key", "", &sent).await),
        Code::AlreadyExists
    );
}

#[tokio::test]
async fn a_bootstrap_layer_must_hold_a_bootstrap() {
    let harness = Harness::start().await;
    let secret = tempfile::tempdir().unwrap();
    fs::write(secret.path().join("image.boot"), "secret").unwrap();
    bootstrap(&harness, "", "empty", |_| {}).await;
    bootstrap(&harness, "", "linked", |root| {
        symlink(secret.path(), root.join("image")).unwrap()
    })
    .await;
    for name in ["empty", "linked"] {
        let error = harness
            .commit(name, &format!("extract {name}"))
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().contains(BOOTSTRAP_PATH), "{error}");
    }
}

#[tokio::test]
async fn data_without_a_bootstrap_cannot_run() {
    let harness = Harness::start().await;
    let outcome = harness
        .prepare_with("key", "", &labels("sha256:c0", BLOB_ANNOTATION))
        .await;
    assert_eq!(refused(outcome), Code::AlreadyExists);
    assert_eq!(
        refused(harness.prepare("container", "sha256:c0").await),
        Code::FailedPrecondition
    );
}

#[tokio::test]
async fn known_images_are_served_again_after_a_restart() {
    let harness = Harness::start().await;
    let top = pull(&harness, "k8s.io").await;
    let before = harness.prepare("container", &top).await.unwrap();
    harness.engine.restore().await.unwrap();
    assert_eq!(harness.mounts("container").await.unwrap(), before);
    let usage = harness.usage(&top).await.unwrap();
    assert!(usage.size > 1 << 30, "fetched data counts: {usage:?}");
}

#[tokio::test]
async fn an_image_is_filled_from_its_first_container_on_and_not_for_a_view() {
    let filled = |harness: &Harness| harness.mounter.filled.lock().unwrap().len();
    let harness = Harness::start().await;
    let top = pull(&harness, "k8s.io").await;
    harness.view("view", &top).await.unwrap();
    harness.prepare("plain", "").await.unwrap();
    assert_eq!(filled(&harness), 0);
    harness.prepare("container", &top).await.unwrap();
    assert_eq!(filled(&harness), 1);
    // The next process goes on for the containers it finds.
    harness.engine.restore().await.unwrap();
    assert_eq!(filled(&harness), 2);
}
