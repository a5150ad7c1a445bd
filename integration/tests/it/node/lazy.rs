//! Images under containerd: lazy ones start without their data, plain ones run beside them, removal frees everything.

use std::path::Path;
use std::time::Duration;

use integration::compare::{self, Allowed};
use integration::containerd::SNAPSHOTTER;
use integration::image::{busybox, debian, edge};
use integration::slipwayd::Slipwayd;
use integration::{process, unpack, wait};
use rstest::rstest;

use super::{node, node_on};

/// How long the daemon may take to free what containerd no longer needs.
const FREE_DEADLINE: Duration = Duration::from_secs(60);

/// How long containerd may take to see that the daemon is back.
const RECONNECT_DEADLINE: Duration = Duration::from_secs(60);

#[rstest]
#[case("erofs")]
#[case("fuse")]
fn busybox_runs_lazily_and_removal_frees_everything(#[case] data_path: &'static str) {
    let node = node_on(data_path);
    let small = node.scene.dir().join("small");
    let reference = node.offer_converted(&small, "busybox:1", "busybox:rafs").unwrap();
    node.pull_lazily(&reference).unwrap();
    assert_eq!(
        node.run(&reference, &["/bin/cat", "/data/greeting"]).unwrap(),
        "hello from a layer"
    );
    // Containers write into their own layer, never into the image.
    let script = "echo changed > /data/greeting && rm /etc/passwd && cat /data/greeting";
    assert_eq!(
        node.run(&reference, &["/bin/sh", "-c", script]).unwrap(),
        "changed"
    );
    assert_eq!(
        node.run(&reference, &["/bin/cat", "/data/greeting"]).unwrap(),
        "hello from a layer"
    );
    node.containerd.remove_image(&reference).unwrap();
    assert_free(&node.slipwayd);
}

#[test]
fn plain_image_runs_through_the_same_snapshotter() {
    let node = node();
    let reference = node.meter.reference("busybox:1");
    node.containerd.pull(&reference, SNAPSHOTTER).unwrap();
    assert_eq!(
        node.run(&reference, &["/bin/cat", "/data/greeting"]).unwrap(),
        "hello from a layer"
    );
    node.containerd.remove_image(&reference).unwrap();
    assert_free(&node.slipwayd);
}

#[rstest]
#[case("erofs")]
#[case("fuse")]
fn debian_image_imports_numpy_before_its_data_is_here(#[case] data_path: &'static str) {
    let node = node_on(data_path);
    let layout = debian::image().unwrap();
    let reference = node.offer_converted(&layout, debian::TAG, "python:rafs").unwrap();
    let whole: u64 = std::fs::read_dir(layout.join("blobs/sha256"))
        .unwrap()
        .map(|blob| blob.unwrap().metadata().unwrap().len())
        .sum();
    let before = node.meter.received();
    node.pull_lazily(&reference).unwrap();
    let said = node
        .run(&reference, &["/usr/bin/python3", debian::PROGRAM_PATH])
        .unwrap();
    let fetched = node.meter.received() - before;
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["trace"], 12.0);
    assert!(
        fetched < whole / 2,
        "{fetched} bytes came for an image of {whole}"
    );
    let image = node
        .slipwayd
        .image(&reference)
        .unwrap()
        .expect("the daemon serves it");
    assert_eq!(image["read_error_count"], 0);
}

#[rstest]
#[case("erofs")]
#[case("fuse")]
fn containers_see_what_umoci_unpacks(#[case] data_path: &'static str) {
    let node = node_on(data_path);
    let layout = node.scene.dir().join("edge");
    edge::make(&layout).unwrap();
    let reference = node.offer_converted(&layout, "edge:1", "edge:rafs").unwrap();
    node.pull_lazily(&reference).unwrap();
    let expected = node.scene.dir().join("expected");
    let mtimes = unpack::gnu_tar(&layout, "edge:1", &expected).unwrap();
    let view = node.scene.folder("view").unwrap();
    node.containerd
        .mount_view(SNAPSHOTTER, "the-view", &view)
        .unwrap();
    let allowed = Allowed {
        mtimes,
        directory_links: true,
        ..Allowed::default()
    };
    compare::assert_same(&expected, &view, &allowed);
}

#[rstest]
#[case("erofs")]
#[case("fuse")]
fn killed_daemon_serves_the_same_images_after_its_restart(#[case] data_path: &'static str) {
    let mut node = node_on(data_path);
    let small = node.scene.dir().join("small");
    busybox::make(&small).unwrap();
    let reference = node.offer_converted(&small, "busybox:1", "busybox:rafs").unwrap();
    node.pull_lazily(&reference).unwrap();
    let images = node.slipwayd.images().unwrap();
    node.slipwayd.restart().unwrap();
    assert_eq!(node.slipwayd.images().unwrap().len(), images.len());
    // Containerd's client waits a moment before it dials again, and until then says that nobody listens.
    let mut list = node.containerd.ctr();
    list.args(["snapshots", "--snapshotter", SNAPSHOTTER, "ls"]);
    wait::until(RECONNECT_DEADLINE, "containerd to reconnect", || {
        process::run(&mut list).ok()
    })
    .unwrap();
    assert_eq!(
        node.run(&reference, &["/bin/cat", "/data/greeting"]).unwrap(),
        "hello from a layer"
    );
}

/// Waits until nothing of any image is left in the daemon and in its folders.
fn assert_free(slipwayd: &Slipwayd) {
    wait::until(FREE_DEADLINE, "images to be forgotten", || {
        slipwayd.images().unwrap().is_empty().then_some(())
    })
    .unwrap();
    for folder in ["snapshots", "cache/v1"] {
        let folder = slipwayd.root().join(folder);
        wait::until(
            FREE_DEADLINE,
            &format!("{} to be empty", folder.display()),
            || (file_count(&folder) == 0).then_some(()),
        )
        .unwrap();
    }
}

/// Files, not folders, under a folder.
fn file_count(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| {
            if entry.path().is_dir() {
                file_count(&entry.path())
            } else {
                1
            }
        })
        .sum()
}
