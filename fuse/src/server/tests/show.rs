//! What a mount shows.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirEntryExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};

use rafs::tree::{Attr, Content};
use rafs::{FileType, Timestamp, Tree};

use super::*;
use crate::fixture::{Builder, CHUNK_LEN, Fault, Fixture, mode, noise};

const MTIME: Timestamp = Timestamp {
    secs: -12_345,
    nanos: 678_901_234,
};

/// One of everything.
fn zoo() -> (Fixture, Vec<u8>) {
    let mut builder = Builder::new();
    let content = noise(5 * CHUNK_LEN + 123, 3);
    let attr = Attr {
        permissions: 0o4755,
        uid: 70_000,
        gid: 80_000,
        mtime: MTIME,
        xattrs: [
            (b"user.note".to_vec(), b"\0binary\xff".to_vec()),
            (b"user.empty".to_vec(), vec![]),
            (b"trusted.answer".to_vec(), b"42".to_vec()),
        ]
        .into(),
    };
    let file = builder.file(Tree::ROOT, "file", attr, &content);
    let dir = builder.dir(Tree::ROOT, "dir");
    builder.link(dir, "hard", file);
    builder.file(dir, b"not \xff\xfe utf-8".to_vec(), mode(0o600), b"x");
    builder.file(dir, vec![b'n'; 255], mode(0o600), b"");
    builder.add(dir, "link", mode(0o777), Content::Symlink(b"../file".to_vec()));
    builder.special(dir, "char", FileType::CharDevice, (0x34 << 20) | (5 << 8) | 7);
    builder.special(dir, "block", FileType::BlockDevice, 8 << 8 | 1);
    builder.special(dir, "fifo", FileType::Fifo, 0);
    builder.special(dir, "socket", FileType::Socket, 0);
    (builder.finish(), content)
}

fn xattr(path: &Path, name: &str, room: usize) -> rustix::io::Result<Vec<u8>> {
    let mut value = vec![0; room];
    let len = rustix::fs::lgetxattr(path, name, value.as_mut_slice())?;
    value.truncate(len);
    Ok(value)
}

fn names(dir: &Path) -> BTreeSet<OsString> {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect()
}

fn check_file(root: &Path, content: &[u8]) {
    let file = root.join("file");
    assert_eq!(std::fs::read(&file).unwrap(), content);
    let meta = std::fs::symlink_metadata(&file).unwrap();
    assert_eq!((meta.mode(), meta.uid(), meta.gid()), (0o10_4755, 70_000, 80_000));
    assert_eq!(
        (meta.mtime(), meta.mtime_nsec()),
        (MTIME.secs, i64::from(MTIME.nanos))
    );
    assert_eq!(
        (meta.size(), meta.nlink(), meta.blocks()),
        (content.len() as u64, 2, 41)
    );
    let hard = std::fs::symlink_metadata(root.join("dir/hard")).unwrap();
    assert_eq!((hard.ino(), hard.dev()), (meta.ino(), meta.dev()));

    assert_eq!(xattr(&file, "user.note", 100).unwrap(), b"\0binary\xff");
    assert_eq!(xattr(&file, "user.empty", 100).unwrap(), b"");
    // The kernel keeps this kind from everybody else.
    if rustix::process::geteuid().is_root() {
        assert_eq!(xattr(&file, "trusted.answer", 100).unwrap(), b"42");
    }
    assert_eq!(xattr(&file, "user.note", 3), Err(rustix::io::Errno::RANGE));
    assert_eq!(xattr(&file, "user.none", 100), Err(rustix::io::Errno::NODATA));
    let mut list = [0; 200];
    let len = rustix::fs::llistxattr(&file, &mut list[..]).unwrap();
    let listed: BTreeSet<_> = list[..len]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
        .collect();
    assert_eq!(
        listed,
        BTreeSet::from([&b"user.note"[..], b"user.empty", b"trusted.answer"])
    );
    assert_eq!(
        rustix::fs::llistxattr(&file, &mut list[..5]),
        Err(rustix::io::Errno::RANGE)
    );
}

fn check_dir(dir: &Path, content: &[u8]) {
    let expected = ["hard", "link", "char", "block", "fifo", "socket"].map(OsString::from);
    let odd = [
        OsString::from_vec(b"not \xff\xfe utf-8".to_vec()),
        OsString::from_vec(vec![b'n'; 255]),
    ];
    assert_eq!(names(dir), expected.into_iter().chain(odd).collect());
    assert_eq!(
        std::fs::read(dir.join(OsStr::from_bytes(b"not \xff\xfe utf-8"))).unwrap(),
        b"x"
    );
    assert_eq!(
        std::fs::read_link(dir.join("link")).unwrap(),
        Path::new("../file")
    );
    assert_eq!(std::fs::read(dir.join("link")).unwrap(), content);
    let rdev = |name: &str| {
        let rdev = std::fs::symlink_metadata(dir.join(name)).unwrap().rdev();
        (rustix::fs::major(rdev), rustix::fs::minor(rdev))
    };
    assert_eq!(rdev("char"), (5, 0x34 << 8 | 7));
    assert_eq!(rdev("block"), (8, 1));
    let kind = |name: &str| std::fs::symlink_metadata(dir.join(name)).unwrap().file_type();
    assert!(kind("char").is_char_device() && kind("block").is_block_device());
    assert!(kind("fifo").is_fifo() && kind("socket").is_socket());
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.ino(), entry.metadata().unwrap().ino());
    }
}

fn check_zoo(root: &Path, content: &[u8]) {
    check_file(root, content);
    check_dir(&root.join("dir"), content);
    for _ in 0..2 {
        let missing = std::fs::metadata(root.join("missing")).unwrap_err();
        assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
    }
    let error = std::fs::write(root.join("new"), "").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    let error = std::fs::File::options()
        .write(true)
        .open(root.join("file"))
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}

#[test]
fn a_node_shows_everything_of_its_images() {
    let (fixture, content) = zoo();
    let node = Node::new();
    let root = node.add(fixture.spec(5, &fixture.source()));
    check_zoo(&root, &content);
    let statfs = rustix::fs::statvfs(&root).unwrap();
    assert_eq!(statfs.f_namemax, 255);
    assert!(statfs.f_blocks > 0 && statfs.f_bfree == 0);
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts
        .lines()
        .find(|line| line.contains(node.mountpoint().to_str().unwrap()))
        .unwrap();
    assert!(
        line.contains("fuse.slipway") && !line.contains("nosuid") && !line.contains("nodev"),
        "{line}"
    );
    node.end();
}

#[test]
fn an_image_alone_is_the_root_of_its_mount() {
    let (fixture, content) = zoo();
    let node = Node::of_image(fixture.spec(5, &fixture.source()));
    assert_eq!(node.path(ImageId(5)), node.mountpoint());
    check_zoo(node.mountpoint(), &content);
    node.end();
}

#[test]
fn images_come_and_go() {
    let (fixture, content) = zoo();
    let node = Node::new();
    let images = node.mountpoint().join("images");
    let source = fixture.source();
    assert_eq!(names(&images), BTreeSet::new());
    for id in [3, 1, 2] {
        node.add(fixture.spec(id, &source));
    }
    assert_eq!(names(&images), ["1", "2", "3"].map(OsString::from).into());
    assert!(std::fs::metadata(images.join("4")).is_err());
    assert!(std::fs::metadata(images.join("01")).is_err());
    let four = node.add(fixture.spec(4, &source));
    assert_eq!(std::fs::read(four.join("file")).unwrap(), content);

    // A file that is open outlives its image.
    let open = std::fs::File::open(images.join("2/file")).unwrap();
    node.remove(ImageId(2));
    node.remove(ImageId(3));
    assert!(std::fs::metadata(images.join("2")).is_err());
    assert!(std::fs::metadata(images.join("3/file")).is_err());
    assert_eq!(names(&images), ["1", "4"].map(OsString::from).into());
    assert_eq!(node.status(ImageId(2)), None);
    let mut bytes = vec![0; content.len()];
    for _ in 0..2 {
        open.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes, content);
        rustix::fs::fadvise(&open, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
    assert!(
        node.tree.images.get(2).is_some(),
        "remembered while a file of it is open"
    );
    // The other one's numbers come back in the kernel's own time.
    eventually(|| node.tree.images.get(3).is_none());
    assert!(node.tree.attr(3 << 40).is_err());
    node.end();
}

/// An overlay that ends with its owner.
struct Overlay(PathBuf);

impl Drop for Overlay {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn an_overlay_stands_on_an_image_and_copies_up_from_it() {
    let (fixture, content) = zoo();
    let node = Node::new();
    let lower = node.add(fixture.spec(1, &fixture.source()));
    let dir = tempfile::tempdir().unwrap();
    let [upper, work, merged] = ["upper", "work", "merged"].map(|name| dir.path().join(name));
    for dir in [&upper, &work, &merged] {
        std::fs::create_dir(dir).unwrap();
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        upper.display(),
        work.display()
    );
    let options = std::ffi::CString::new(options).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("overlay", &merged, "overlay", flags, options.as_c_str()).unwrap();
    let overlay = Overlay(merged.clone());

    check_dir(&merged.join("dir"), &content);
    let file = merged.join("file");
    let mut changed = content.clone();
    changed[..3].copy_from_slice(b"new");
    let copy = std::fs::File::options().write(true).open(&file).unwrap();
    copy.write_all_at(b"new", 0).unwrap();
    drop(copy);
    assert_eq!(std::fs::read(&file).unwrap(), changed);
    assert_eq!(xattr(&file, "user.note", 100).unwrap(), b"\0binary\xff");
    std::fs::remove_file(merged.join("dir/link")).unwrap();
    assert!(!merged.join("dir/link").exists());
    std::fs::rename(merged.join("dir/hard"), merged.join("dir/moved")).unwrap();
    assert_eq!(std::fs::read(merged.join("dir/moved")).unwrap(), content);

    assert_eq!(std::fs::read(lower.join("file")).unwrap(), content);
    drop(overlay);
    node.end();
}

#[test]
fn a_large_directory_is_listed_once_and_whole() {
    const COUNT: usize = 20_000;
    let mut builder = Builder::new();
    let dir = builder.dir(Tree::ROOT, "many");
    let empty = builder.file(dir, "file-0", mode(0o644), b"");
    for number in 1..COUNT {
        builder.link(dir, format!("file-{number}"), empty);
    }
    let fixture = builder.finish();
    let node = Node::new();
    let dir = node.add(fixture.spec(1, &fixture.source())).join("many");
    let expected: BTreeSet<OsString> = (0..COUNT).map(|number| format!("file-{number}").into()).collect();

    // First with buffers that hold a few names only, then with large ones from the kernel's memory of the first.
    let fd = std::fs::File::open(&dir).unwrap();
    let mut buffer = Vec::with_capacity(200);
    let mut reader = rustix::fs::RawDir::new(&fd, buffer.spare_capacity_mut());
    let mut listed = Vec::new();
    while let Some(entry) = reader.next() {
        listed.push(OsString::from_vec(entry.unwrap().file_name().to_bytes().to_vec()));
    }
    assert_eq!(listed.len(), COUNT + 2);
    assert!(expected.is_subset(&listed.into_iter().collect()));
    assert_eq!(names(&dir), expected);
}

#[test]
fn direct_and_mapped_reads_show_the_content() {
    let (fixture, content) = zoo();
    let node = Node::new();
    let source = fixture.source();
    let path = node.add(fixture.spec(1, &source)).join("file");
    let flags = rustix::fs::OFlags::DIRECT.bits().cast_signed();
    let direct = std::fs::File::options()
        .read(true)
        .custom_flags(flags)
        .open(&path)
        .unwrap();
    // Twice: from the source, then from the cache.
    for _ in 0..2 {
        let map = crate::mapping::FileMap::open(&path).unwrap();
        assert_eq!(map.as_ref(), content);
        drop(map);
        let tail = crate::mapping::with_buffer(1 << 20, |buffer| {
            let buffer = buffer.unwrap();
            let len = direct.read_at(buffer, CHUNK_LEN as u64).unwrap();
            buffer[..len].to_vec()
        });
        assert_eq!(tail, content[CHUNK_LEN..]);
        drop_page_cache(&path);
        source.set(Fault::Missing);
    }
}

#[test]
fn a_bad_bootstrap_is_refused_and_names_the_file() {
    let (fixture, _) = zoo();
    let node = Node::new();
    for id in [0, 1 << 23, u32::MAX] {
        let error = Server::add(&node, fixture.spec(id, &fixture.source())).unwrap_err();
        assert!(matches!(error, Error::ImageNumber(_)));
    }
    std::fs::write(fixture.bootstrap(), vec![7; 9000]).unwrap();
    let error = Server::add(&node, fixture.spec(1, &fixture.source())).unwrap_err();
    assert!(matches!(error, Error::Bootstrap { .. }));
    assert!(error.to_string().contains("bootstrap"), "{error}");
}
