//! What a container sees and does is the same on Slipway as on containerd's own overlayfs snapshotter.

mod change;

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use integration::compare::{self, Allowed};
use integration::containerd::SNAPSHOTTER;
use integration::image::compose;
use integration::node::Node;
use rstest::rstest;

use super::node_on;

/// Directories that some layer changes without listing them: containerd's unpacker leaves them with the present time.
const UNLISTED: [&str; 9] = [
    "",
    "hide",
    "lib",
    "sbin",
    "share",
    "dangling",
    "to-file",
    "usr",
    "usr/games",
];

/// Whiteouts in directories with nothing below them, which overlayfs lists: the first is a device then, the second,
/// which the test makes, cannot even be looked at.
const BARE_WHITEOUTS: [&str; 2] = ["sbin/removed", "work/not-there"];
/// Where overlayfs notes what it copied, by numbers of the lower file system, that it copied something, and its own id.
const OWN_XATTRS: [&str; 3] = [
    "trusted.overlay.origin",
    "trusted.overlay.impure",
    "trusted.overlay.uuid",
];

/// An active snapshot of the image, mounted as containers have it.
struct Rootfs {
    point: PathBuf,
    /// Where its changes go.
    upper: PathBuf,
    /// Names of its mount options, with the values of those that are not folders.
    options: BTreeSet<String>,
}

impl Rootfs {
    /// Prepares and mounts a container's snapshot on the only image of a snapshotter.
    fn mount(node: &Node, snapshotter: &str) -> Self {
        let point = node.scene.folder(&format!("rootfs-{snapshotter}")).unwrap();
        let list = node
            .containerd
            .mount_container(snapshotter, "container", &point)
            .unwrap();
        let upper = list
            .iter()
            .find_map(|option| option.strip_prefix("upperdir="))
            .unwrap();
        let option = |option: &String| match option.split_once('=') {
            Some((name, value)) if value.starts_with('/') => name.to_owned(),
            _ => option.clone(),
        };
        Rootfs {
            point,
            upper: PathBuf::from(upper),
            options: list.iter().map(option).collect(),
        }
    }
}

/// Pulls the image both ways and mounts a container's snapshot of each: containerd's own first.
fn both(tier: &'static str) -> (Node, [Rootfs; 2]) {
    let node = node_on(tier);
    let layout = node.scene.dir().join("compose");
    compose::make(&layout).unwrap();
    let original = node.offer(&layout, compose::TAG, "compose:original").unwrap();
    let converted = node
        .offer_converted(&layout, compose::TAG, "compose:rafs")
        .unwrap();
    node.containerd.pull(&original, "overlayfs").unwrap();
    node.pull_lazily(&converted).unwrap();
    // Programs run as another user have to get to the trees.
    std::fs::set_permissions(node.scene.dir(), Permissions::from_mode(0o711)).unwrap();
    let roots = ["overlayfs", SNAPSHOTTER].map(|snapshotter| Rootfs::mount(&node, snapshotter));
    (node, roots)
}

/// Paths that were touched since the test began, in both trees: their times are those of the touching.
fn touched_in_both(since: SystemTime, [theirs, ours]: [&Path; 2]) -> BTreeSet<PathBuf> {
    let touched = |root| {
        let mut touched = BTreeSet::new();
        collect_touched(root, Path::new(""), since, &mut touched);
        touched
    };
    &touched(theirs) & &touched(ours)
}

fn collect_touched(root: &Path, path: &Path, since: SystemTime, touched: &mut BTreeSet<PathBuf>) {
    let full = root.join(path);
    let Ok(meta) = full.symlink_metadata() else {
        return;
    };
    if meta.modified().unwrap() >= since {
        touched.insert(path.to_owned());
    }
    if meta.is_dir() {
        for entry in full.read_dir().unwrap() {
            collect_touched(root, &path.join(entry.unwrap().file_name()), since, touched);
        }
    }
}

#[rstest]
fn a_container_sees_and_does_the_same(#[values("erofs", "fuse")] tier: &'static str) {
    let since = SystemTime::now();
    let (_node, [theirs, ours]) = both(tier);
    assert_eq!(theirs.options, ours.options);
    let unlisted = BTreeSet::from(UNLISTED.map(PathBuf::from));
    let allowed = |mtimes| Allowed {
        mtimes,
        xattrs: OWN_XATTRS.into(),
        // Overlayfs counts one for directories that it merges.
        directory_links: true,
        ignored: BTreeSet::from(BARE_WHITEOUTS.map(PathBuf::from)),
        ..Allowed::default()
    };
    compare::assert_same(&theirs.point, &ours.point, &allowed(unlisted.clone()));
    let done = [&theirs, &ours].map(|root| change::all(&root.point));
    for (theirs, ours) in done[0].iter().zip(&done[1]) {
        assert_eq!(theirs, ours);
    }
    // What is seen now, and what was written for it: whiteouts, opaque directories, copies.
    for [theirs, ours] in [[&theirs.point, &ours.point], [&theirs.upper, &ours.upper]] {
        let touched = touched_in_both(since, [theirs, ours]);
        compare::assert_same(theirs, ours, &allowed(&touched | &unlisted));
    }
}
