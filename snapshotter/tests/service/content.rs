//! The behaviour containerd's own snapshotter suite asks for: what mounted snapshots show.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use crate::harness::Harness;

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn read(root: &Path, name: &str) -> String {
    fs::read_to_string(root.join(name)).unwrap()
}

#[tokio::test]
async fn files_are_replaced_layer_by_layer() {
    let harness = Harness::start().await;
    let mut parent = String::new();
    for index in 0..5 {
        let name = format!("layer {index}");
        let change = |root: &Path| {
            write(root, "same", &format!("text {index}"));
            write(root, &format!("dir/{index}"), "own");
        };
        harness.layer(&name, &parent, change).await;
        parent = name;
    }
    let view = harness.look(&parent).await;
    assert_eq!(read(view.path(), "same"), "text 4");
    assert_eq!(fs::read_dir(view.path().join("dir")).unwrap().count(), 5);
}

#[tokio::test]
async fn a_folder_that_was_removed_comes_back_empty() {
    let harness = Harness::start().await;
    harness.layer("a", "", |root| write(root, "dir/old", "1")).await;
    harness
        .layer("b", "a", |root| fs::remove_dir_all(root.join("dir")).unwrap())
        .await;
    harness.layer("c", "b", |root| write(root, "dir/new", "2")).await;
    let view = harness.look("c").await;
    assert_eq!(read(view.path(), "dir/new"), "2");
    assert!(!view.path().join("dir/old").exists());
}

#[tokio::test]
async fn a_folder_replaced_in_one_layer_hides_the_old_one() {
    let harness = Harness::start().await;
    harness.layer("a", "", |root| write(root, "dir/old", "1")).await;
    harness
        .layer("b", "a", |root| {
            fs::remove_dir_all(root.join("dir")).unwrap();
            write(root, "dir/new", "2");
        })
        .await;
    let view = harness.look("b").await;
    assert!(!view.path().join("dir/old").exists());
    assert!(view.path().join("dir/new").exists());
}

#[tokio::test]
async fn owners_last() {
    let harness = Harness::start().await;
    harness
        .layer("a", "", |root| {
            write(root, "opt/file", "1");
            chown(root.join("opt"), Some(1), Some(1)).unwrap();
        })
        .await;
    harness
        .layer("b", "a", |root| {
            chown(root.join("opt/file"), Some(5), Some(6)).unwrap()
        })
        .await;
    let view = harness.look("b").await;
    let owner = |name: &str| {
        let metadata = fs::metadata(view.path().join(name)).unwrap();
        (metadata.uid(), metadata.gid())
    };
    assert_eq!((owner("opt"), owner("opt/file")), ((1, 1), (5, 6)));
}

#[tokio::test]
async fn the_root_has_the_owner_of_the_layer_below() {
    let harness = Harness::start().await;
    harness
        .layer("a", "", |root| chown(root, Some(12), Some(34)).unwrap())
        .await;
    let mounts = harness.prepare("active", "a").await.unwrap();
    let root = harness.mount(&mounts);
    let metadata = fs::metadata(root.path()).unwrap();
    assert_eq!(
        (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777),
        (12, 34, 0o755)
    );
}

#[tokio::test]
async fn modes_of_folders_last() {
    let harness = Harness::start().await;
    let mode = |root: &Path, mode| {
        fs::create_dir_all(root.join("dir")).unwrap();
        fs::set_permissions(root.join("dir"), Permissions::from_mode(mode)).unwrap();
    };
    harness.layer("a", "", |root| mode(root, 0o700)).await;
    harness.layer("b", "a", |root| mode(root, 0o1777)).await;
    for (name, wanted) in [("a", 0o700), ("b", 0o1777)] {
        let view = harness.look(name).await;
        let metadata = fs::metadata(view.path().join("dir")).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, wanted);
    }
}

#[tokio::test]
async fn deleted_files_stay_deleted_in_children() {
    let harness = Harness::start().await;
    harness
        .layer("a", "", |root| {
            write(root, "foo", "1");
            write(root, "bar", "1");
        })
        .await;
    harness
        .layer("b", "a", |root| fs::remove_file(root.join("foo")).unwrap())
        .await;
    harness.layer("c", "b", |root| write(root, "bar", "2")).await;
    let view = harness.look("c").await;
    assert!(!view.path().join("foo").exists());
    assert_eq!(read(view.path(), "bar"), "2");
}

#[tokio::test]
async fn files_move_from_lower_layers() {
    let harness = Harness::start().await;
    harness
        .layer("a", "", |root| {
            write(root, "dir1/f1", "1");
            write(root, "dir2/f2", "2");
        })
        .await;
    harness
        .layer("b", "a", |root| {
            fs::create_dir(root.join("dir3")).unwrap();
            fs::hard_link(root.join("dir1/f1"), root.join("dir3/f1")).unwrap();
            fs::remove_file(root.join("dir1/f1")).unwrap();
            fs::rename(root.join("dir2/f2"), root.join("f2")).unwrap();
        })
        .await;
    let view = harness.look("b").await;
    assert_eq!(
        (read(view.path(), "dir3/f1"), read(view.path(), "f2")),
        ("1".into(), "2".into())
    );
    assert!(!view.path().join("dir1/f1").exists() && !view.path().join("dir2/f2").exists());
}

#[tokio::test]
async fn views_are_read_only() {
    let harness = Harness::start().await;
    harness.layer("a", "", |root| write(root, "foo", "1")).await;
    harness.layer("b", "a", |root| write(root, "bar", "1")).await;
    for parent in ["a", "b"] {
        let view = harness.look(parent).await;
        let error = fs::write(view.path().join("new"), "").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    }
    let mounts = harness.view("empty", "").await.unwrap();
    let view = harness.mount(&mounts);
    assert!(fs::write(view.path().join("new"), "").is_err());
}

#[tokio::test]
async fn many_layers_mount() {
    /// As many as containerd's suite uses; with absolute paths they would not fit in the page mount(2) takes.
    const LAYER_COUNT: usize = 128;
    let harness = Harness::start().await;
    let mut parent = String::new();
    for index in 0..LAYER_COUNT {
        let name = format!("layer {index}");
        let key = format!("extract {index}");
        let mounts = harness.prepare(&key, &parent).await.unwrap();
        let upper = mounts[0]
            .options
            .iter()
            .find_map(|option| option.strip_prefix("upperdir="));
        let folder = Path::new(upper.unwrap_or(&mounts[0].source));
        write(folder, "top", &index.to_string());
        write(folder, &format!("files/{index}"), "own");
        harness.commit(&name, &key).await.unwrap();
        parent = name;
    }
    let mounts = harness.prepare("active", &parent).await.unwrap();
    let root = harness.mount(&mounts);
    assert_eq!(read(root.path(), "top"), (LAYER_COUNT - 1).to_string());
    assert_eq!(
        fs::read_dir(root.path().join("files")).unwrap().count(),
        LAYER_COUNT
    );
}
