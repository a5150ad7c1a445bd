//! Images as mounts of the kernel's EROFS, which reads their blobs from the session.

use std::io::Read;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt};

use sha2::{Digest, Sha256};

use super::*;
use crate::fixture::{Builder, CHUNK_LEN, Fault, Fixture, Reference, mode, noise};

fn one_file(content: &[u8]) -> Fixture {
    let mut builder = Builder::new();
    builder.file(rafs::Tree::ROOT, "file", mode(0o644), content);
    builder.finish()
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    std::fs::read(path)
}

#[test]
fn images_of_the_reference_builder_are_shown_whole() {
    for name in [
        "zstd-blake3",
        "lz4-sha256",
        "none-sha256",
        "zstd-batch",
        "zstd-chunk64k",
        "zran",
    ] {
        let reference = Reference::open(name);
        let node = Node::erofs();
        let root = node.add(reference.spec(1, &reference.source()));
        assert_eq!(node.data_path_of(ImageId(1)).tier, Tier::Erofs, "{name}");
        for (path, digest) in &reference.files {
            let content = read(&root.join(path)).unwrap();
            assert_eq!(
                &hex::encode(Sha256::digest(content)),
                digest,
                "{name}: {}",
                path.display()
            );
        }
        drop(root);
        node.end();
    }
}

#[test]
fn a_blob_is_a_file_with_zeros_between_chunks() {
    let content = noise(CHUNK_LEN + 100, 1);
    let fixture = one_file(&content);
    let node = Node::erofs();
    node.add(fixture.spec(7, &fixture.source()));
    let dir = node.mountpoint().join("blobs/7");
    let names: Vec<_> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, [fixture.blob_id.as_str()]);
    let file = std::fs::File::open(dir.join(&fixture.blob_id)).unwrap();
    let meta = file.metadata().unwrap();
    assert_eq!(
        (meta.len(), meta.permissions().mode() & 0o7777),
        (2 * CHUNK_LEN as u64, 0o400)
    );
    assert_eq!(meta.ino(), 7 << 40 | 1 << 39 | 1);
    let mut bytes = vec![1; 3 * CHUNK_LEN];
    let len = (&file).read(&mut bytes).unwrap();
    bytes.truncate(len);
    let mut expected = content;
    expected.resize(2 * CHUNK_LEN, 0);
    assert_eq!(bytes, expected);
    let mut byte = [1];
    file.read_exact_at(&mut byte, 2 * CHUNK_LEN as u64 - 1).unwrap();
    assert_eq!(byte, [0]);
}

#[test]
fn device_files_and_set_user_id_work_through_overlayfs() {
    let mut builder = Builder::new();
    builder.special(rafs::Tree::ROOT, "null", rafs::FileType::CharDevice, 1 << 8 | 3);
    builder.file(rafs::Tree::ROOT, "suid", mode(0o4755), b"#!/bin/true");
    let fixture = builder.finish();
    let node = Node::erofs();
    let root = node.add(fixture.spec(1, &fixture.source()));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounts
        .lines()
        .find(|line| line.contains(root.to_str().unwrap()))
        .unwrap();
    assert!(!line.contains("nosuid") && !line.contains("nodev"), "{line}");
    let over = Overlay::on(&root);
    let null = over.path().join("null");
    assert!(null.metadata().unwrap().file_type().is_char_device());
    std::fs::write(&null, b"gone").unwrap();
    assert_eq!(read(&null).unwrap(), b"");
    assert_eq!(
        over.path().join("suid").metadata().unwrap().mode() & 0o7777,
        0o4755
    );
}

/// An overlay with an upper folder. Dropping it unmounts.
struct Overlay {
    dir: TempDir,
}

impl Overlay {
    fn on(lower: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["upper", "work", "merged"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let at = |name: &str| dir.path().join(name).display().to_string();
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.display(),
            at("upper"),
            at("work")
        );
        let options = std::ffi::CString::new(options).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount(
            "overlay",
            at("merged"),
            "overlay",
            flags,
            Some(options.as_c_str()),
        )
        .unwrap();
        Overlay { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("merged")
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        rustix::mount::unmount(self.path(), rustix::mount::UnmountFlags::DETACH).ok();
    }
}

#[test]
fn corrupt_chunks_are_errors_and_never_zeros() {
    let content = noise(8 * CHUNK_LEN, 2);
    let fixture = one_file(&content);
    let source = fixture.source();
    source.set(Fault::Flip(64));
    let node = Node::erofs();
    let over = Overlay::on(&node.add(fixture.spec(1, &source)));
    let path = over.path().join("file");
    let error = read(&path).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
    // Nothing of the failure stays in any cache.
    source.set(Fault::None);
    assert_eq!(read(&path).unwrap(), content);
}

#[test]
fn a_dead_source_is_an_error_after_the_deadline_and_right_when_it_is_back() {
    let content = noise(8 * CHUNK_LEN, 3);
    let fixture = one_file(&content);
    let source = fixture.source();
    source.set(Fault::Hang);
    let node = Node::erofs();
    let path = node.add(fixture.spec(1, &source)).join("file");
    let error = read(&path).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
    source.set(Fault::None);
    assert_eq!(read(&path).unwrap(), content);
}

#[test]
fn a_whole_blob_is_read_from_the_cache_without_the_session() {
    let content = noise(8 * CHUNK_LEN, 4);
    let fixture = one_file(&content);
    let node = Node::erofs();
    let source = fixture.source();
    let path = node.add(fixture.spec(1, &source)).join("file");
    assert_eq!(read(&path).unwrap(), content);
    eventually(|| node.status(ImageId(1)).unwrap().bytes_local == 8 * CHUNK_LEN as u64);
    // A second image of the same blob comes when all of it is there.
    let path = node.add(fixture.spec(2, &source)).join("file");
    let blobs = node.mountpoint().join("blobs/2");
    let served = node.tree.images.listed(2).unwrap();
    let devices = served.device_files(&blobs).unwrap();
    assert!(
        !devices.paths[0].starts_with(node.mountpoint()),
        "{:?}",
        devices.paths
    );
    drop(devices);
    assert_eq!(read(&path).unwrap(), content);

    // It is not evicted while that mount is there, in sight or not.
    let blob = served.supply.blobs().next().unwrap();
    let over = Overlay::on(path.parent().unwrap());
    let through = over.path().join("file");
    for is_removed in [false, true] {
        if is_removed {
            node.remove(ImageId(2));
        }
        assert_eq!(node.evict_all(), 0);
        drop_page_cache(&through);
        assert_eq!(read(&through).unwrap(), content);
    }
    drop(over);
    eventually(|| node.evict_all() > 0);
    assert_eq!(blob.local_len(), 0);
    let first = node.path(ImageId(1)).join("file");
    drop_page_cache(&first);
    assert_eq!(read(&first).unwrap(), content);
}

#[test]
fn a_removed_image_is_read_on_by_who_stands_on_it() {
    let content = noise(8 * CHUNK_LEN, 5);
    let fixture = one_file(&content);
    let node = Node::erofs();
    let root = node.add(fixture.spec(1, &fixture.source()));
    let over = Overlay::on(&root);
    node.remove(ImageId(1));
    assert!(!root.exists());
    assert_eq!(read(&over.path().join("file")).unwrap(), content);
}

#[test]
fn what_is_left_of_a_server_that_died_is_detached() {
    let fixture = one_file(b"content");
    let node = Node::erofs();
    let root = node.add(fixture.spec(1, &fixture.source()));
    // Another server on the same folder, as after a crash without a keeper.
    let config = ServerConfig {
        mountpoint: tempfile::tempdir().unwrap().keep(),
        cache_dir: tempfile::tempdir().unwrap().keep(),
        cache_limits: CacheLimits::default(),
        erofs_dir: root.parent().unwrap().to_owned(),
        data_path: DataPath::Fuse,
        threads: 1,
        read_deadline: DEADLINE,
    };
    let next = Server::mount_node(&config, node._runtime.handle().clone()).unwrap();
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);
    next.unmount().unwrap();
    std::fs::remove_dir_all(&config.mountpoint).unwrap();
    std::fs::remove_dir_all(&config.cache_dir).unwrap();
}

#[test]
fn an_image_that_erofs_refuses_is_served_by_fuse_unless_forbidden() {
    // The kernel takes no path of more than 255 bytes.
    let fixture = one_file(b"content");
    let deep = fixture.dir.path().join("d".repeat(250));
    std::fs::create_dir(&deep).unwrap();
    let bootstrap = deep.join("bootstrap");
    std::fs::copy(fixture.bootstrap(), &bootstrap).unwrap();
    let spec = |id| ImageSpec {
        bootstrap: bootstrap.clone(),
        ..fixture.spec(id, &fixture.source())
    };
    let node = Node::on_path(Arc::new(tempfile::tempdir().unwrap()), DataPath::Auto);
    assert_eq!(node.data_path().tier, Tier::Erofs, "{}", node.data_path().reason);
    let root = node.add(spec(1));
    assert_eq!(read(&root.join("file")).unwrap(), b"content");
    let choice = node.data_path_of(ImageId(1));
    assert_eq!(choice.tier, Tier::Fuse);
    assert!(choice.reason.contains("255"), "{}", choice.reason);
    let node = Node::erofs();
    let error = Server::add(&node, spec(1)).unwrap_err();
    assert!(matches!(&error, Error::Erofs { .. }), "{error}");
    assert!(node.status(ImageId(1)).is_none());
}

/// Beside what the mount keeps of a file that was read, a tenth of it may be in memory elsewhere.
#[test]
fn what_is_read_is_in_memory_once() {
    let content = noise(1024 * CHUNK_LEN, 6);
    for node in [Node::erofs(), Node::new()] {
        let fixture = one_file(&content);
        let path = node.add(fixture.spec(1, &fixture.source())).join("file");
        assert_eq!(read(&path).unwrap(), content);
        assert_eq!(resident_len(&path), content.len() as u64);
        let blob = node.mountpoint().join("blobs/1").join(&fixture.blob_id);
        let cached = (node.cache.path().join("v1"))
            .join(&fixture.blob_id[..2])
            .join(&fixture.blob_id)
            .join("data");
        // Pages that wait to be written cannot go yet.
        std::fs::File::open(&cached).unwrap().sync_all().unwrap();
        eventually(|| 10 * (resident_len(&blob) + resident_len(&cached)) <= content.len() as u64);
    }
}

/// Bytes of a file in the page cache.
fn resident_len(path: &Path) -> u64 {
    let mut fincore = std::process::Command::new("fincore");
    let out = fincore
        .args(["--bytes", "--noheadings", "--raw", "--output", "RES"])
        .arg(path)
        .output()
        .unwrap();
    String::from_utf8(out.stdout).unwrap().trim().parse().unwrap()
}
