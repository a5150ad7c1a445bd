//! An oracle that cannot see is worse than none: each thing it compares is changed once, and must be found.

use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::time::{Duration, SystemTime};

use super::*;

fn build(root: &Path) {
    std::fs::create_dir(root.join("dir")).unwrap();
    std::fs::write(root.join("dir/file"), b"content").unwrap();
    std::fs::write(root.join("dir/other"), b"content").unwrap();
    std::fs::hard_link(root.join("dir/file"), root.join("dir/twin")).unwrap();
    std::fs::hard_link(root.join("dir/other"), root.join("dir/other-twin")).unwrap();
    symlink("target", root.join("dir/link")).unwrap();
    xattr::set(root.join("dir/file"), "user.note", b"value").unwrap();
    for name in ["dir/file", "dir/other", "dir", ""] {
        set_mtime(&root.join(name), 1_000_000_001);
    }
    let link_time = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        },
        last_modification: rustix::fs::Timespec {
            tv_sec: 1,
            tv_nsec: 1,
        },
    };
    rustix::fs::utimensat(
        rustix::fs::CWD,
        root.join("dir/link"),
        &link_time,
        rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
    )
    .unwrap();
}

fn set_mtime(path: &Path, nanos: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos);
    std::fs::File::open(path).unwrap().set_modified(time).unwrap();
}

/// The differences after `change` was made to one of two equal trees, with times of directories set back.
fn found_after(change: impl FnOnce(&Path)) -> Vec<String> {
    let trees = [(); 2].map(|()| tempfile::tempdir().unwrap());
    trees.iter().for_each(|tree| build(tree.path()));
    change(trees[1].path());
    set_mtime(&trees[1].path().join("dir"), 1_000_000_001);
    set_mtime(trees[1].path(), 1_000_000_001);
    let found = tree(trees[0].path(), trees[1].path(), &Allowed::default()).unwrap();
    found.lines().to_vec()
}

#[test]
fn equal_trees_have_no_differences() {
    assert_eq!(found_after(|_| {}), Vec::<String>::new());
}

#[rstest::rstest]
#[case::content("content differs from byte 3", |root: &Path| {
    std::fs::write(root.join("dir/file"), b"conTent").unwrap();
    set_mtime(&root.join("dir/file"), 1_000_000_001);
})]
#[case::size("size 3, expected 7", |root: &Path| std::fs::write(root.join("dir/file"), b"con").unwrap())]
#[case::permissions("permissions", |root: &Path| {
    std::fs::set_permissions(root.join("dir/file"), PermissionsExt::from_mode(0o4644)).unwrap();
})]
#[case::owner("owner (1, 2)", |root: &Path| lchown(root.join("dir/link"), Some(1), Some(2)).unwrap())]
#[case::one_nanosecond("mtime (1, 2), expected (1, 1)", |root: &Path| set_mtime(&root.join("dir/file"), 1_000_000_002))]
#[case::xattr("extended attributes", |root: &Path| xattr::set(root.join("dir/file"), "user.note", b"VALUE").unwrap())]
#[case::missing("dir/link: is missing", |root: &Path| std::fs::remove_file(root.join("dir/link")).unwrap())]
#[case::surplus("dir/new: is not expected", |root: &Path| std::fs::write(root.join("dir/new"), b"").unwrap())]
#[case::kind("is a directory, expected a symbolic link", |root: &Path| {
    std::fs::remove_file(root.join("dir/link")).unwrap();
    std::fs::create_dir(root.join("dir/link")).unwrap();
})]
#[case::target("target Some(\"elsewhere\")", |root: &Path| {
    std::fs::remove_file(root.join("dir/link")).unwrap();
    symlink("elsewhere", root.join("dir/link")).unwrap();
})]
#[case::regrouped_links("shares its inode with other names", |root: &Path| {
    std::fs::remove_file(root.join("dir/twin")).unwrap();
    std::fs::remove_file(root.join("dir/other-twin")).unwrap();
    std::fs::hard_link(root.join("dir/file"), root.join("dir/other-twin")).unwrap();
    std::fs::hard_link(root.join("dir/other"), root.join("dir/twin")).unwrap();
})]
fn finds(#[case] expected: &str, #[case] change: fn(&Path)) {
    let found = found_after(change);
    assert!(
        found.iter().any(|line| line.contains(expected)),
        "{expected:?} not among {found:#?}"
    );
}
