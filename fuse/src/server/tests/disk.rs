//! A cache whose disk is full, has no inodes left, takes no writes, or loses them.

use std::ffi::CString;
use std::process::Command;

use rafs::Tree;
use rustix::mount::{MountFlags, UnmountFlags};

use super::*;
use crate::fixture::{Builder, CHUNK_LEN, Fixture, mode, noise};

/// A file system of limited size in memory. Dropping it unmounts.
struct Disk {
    dir: TempDir,
}

impl Disk {
    fn new(options: &str) -> Self {
        let disk = Disk {
            dir: tempfile::tempdir().unwrap(),
        };
        let options = CString::new(options).unwrap();
        let flags = MountFlags::empty();
        rustix::mount::mount("none", disk.dir.path(), "tmpfs", flags, Some(options.as_c_str())).unwrap();
        disk
    }

    fn change(&self, options: &str) {
        remount(self.dir.path(), options);
    }
}

fn remount(dir: &Path, options: &str) {
    let status = Command::new("mount")
        .args(["-o", &format!("remount,{options}")])
        .arg(dir)
        .status();
    assert!(status.unwrap().success());
}

impl Drop for Disk {
    fn drop(&mut self) {
        rustix::mount::unmount(self.dir.path(), UnmountFlags::DETACH).unwrap();
    }
}

/// An ext4 on a loop device, whose backing file is on a disk that may be too small for it. Dropping it unmounts.
struct Ext4 {
    dir: TempDir,
    _under: Disk,
}

impl Ext4 {
    /// Of 64 MiB, with so many of them behind it.
    fn new(under: &str) -> Self {
        let under = Disk::new(under);
        let image = under.dir.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        let run = |command: &mut Command| assert!(command.output().unwrap().status.success(), "{command:?}");
        let options = "lazy_itable_init=0,nodiscard";
        run(Command::new("mkfs.ext4")
            .args(["-q", "-O", "^has_journal", "-E", options])
            .arg(&image));
        let dir = tempfile::tempdir().unwrap();
        run(Command::new("mount")
            .args(["-o", "loop,errors=continue"])
            .arg(&image)
            .arg(dir.path()));
        Ext4 { dir, _under: under }
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        rustix::mount::unmount(self.dir.path(), UnmountFlags::DETACH).unwrap();
    }
}

/// An image with one file, `big`, of 4 MiB.
fn image() -> (Fixture, Vec<u8>) {
    let mut builder = Builder::new();
    let content = noise(4 << 20, 9);
    builder.file(Tree::ROOT, "big", mode(0o644), &content);
    (builder.finish(), content)
}

/// Reads the image from the start, past the page cache, and tells what it cost so far.
fn reread(node: &Node, content: &[u8]) -> crate::ImageStatus {
    let file = node.path(ImageId(1)).join("big");
    drop_page_cache(&file);
    assert!(std::fs::read(&file).unwrap() == content, "wrong bytes");
    node.status(ImageId(1)).unwrap()
}

#[test]
fn a_full_disk_costs_fetches_and_no_reads() {
    let (fixture, content) = image();
    let disk = Disk::new("size=1m");
    let cache = Arc::new(tempfile::tempdir_in(disk.dir.path()).unwrap());
    let node = Node::on(cache);
    node.add(fixture.spec(1, &fixture.source()));
    let read = || reread(&node, &content);
    let full = read();
    assert!(full.cache_errors > 0 && full.read_errors == 0, "{full:?}");
    assert!(node.cache_meter().status().write_errors > 0);
    assert!(full.bytes_local < full.bytes_total - CHUNK_LEN as u64, "{full:?}");
    let again = read();
    assert!(
        again.requests > full.requests && again.read_errors == 0,
        "{again:?}"
    );
    // With room, the cache fills as if nothing had been.
    disk.change("size=64m");
    let roomy = read();
    assert_eq!(roomy.bytes_local, roomy.bytes_total);
    assert_eq!(read().requests, roomy.requests);
    node.end();
}

/// An image that comes while the disk does not take its files, is read, and is read again when it does.
fn recovers(node: &Node, mend: impl FnOnce()) {
    let (fixture, content) = image();
    node.add(fixture.spec(1, &fixture.source()));
    let uncached = reread(node, &content);
    assert_eq!((uncached.bytes_local, uncached.read_errors), (0, 0));
    assert!(node.cache_meter().status().write_errors > 0);
    mend();
    let whole = content.len() as u64;
    eventually(|| reread(node, &content).bytes_local == whole);
    let cached = node.status(ImageId(1)).unwrap();
    assert_eq!(reread(node, &content).requests, cached.requests);
}

#[test]
fn a_disk_without_inodes_is_used_when_it_has_some() {
    let disk = Disk::new("size=64m");
    let node = Node::on(Arc::new(tempfile::tempdir_in(disk.dir.path()).unwrap()));
    disk.change("nr_inodes=5");
    recovers(&node, || disk.change("nr_inodes=100"));
    node.end();
}

#[test]
fn a_disk_that_is_read_only_is_used_when_it_no_longer_is() {
    let node = Node::new();
    let folder = node.cache.path().join("v1");
    let on = |options: &str| {
        let mut mount = Command::new("mount");
        mount.args(["-o", options]).arg(&folder).arg(&folder);
        assert!(mount.status().unwrap().success());
    };
    on("bind");
    on("remount,bind,ro");
    recovers(&node, || {
        rustix::mount::unmount(&folder, UnmountFlags::DETACH).unwrap()
    });
    node.end();
}

#[test]
fn what_the_disk_loses_after_it_took_it_is_never_served() {
    let (fixture, content) = image();
    // The loop device says I/O error for what its own disk has no room for.
    let disk = Ext4::new("size=3m");
    let cache = Arc::new(tempfile::tempdir_in(disk.dir.path()).unwrap());
    let node = Node::on(cache);
    node.add(fixture.spec(1, &fixture.source()));
    let data = node.cache.path().join("v1").join(&fixture.blob_id[..2]);
    let data = std::fs::File::open(data.join(&fixture.blob_id).join("data")).unwrap();
    for _ in 0..4 {
        reread(&node, &content);
        // Written back, as far as the disk takes it, and no longer in memory.
        rustix::fs::sync();
        rustix::fs::fadvise(&data, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
    let status = node.status(ImageId(1)).unwrap();
    assert_eq!(status.read_errors, 0);
    assert!(node.cache_meter().status().write_errors > 0, "the disk was good");

    disk._under.change("size=128m");
    eventually(|| {
        rustix::fs::sync();
        rustix::fs::fadvise(&data, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        let before = node.status(ImageId(1)).unwrap().requests;
        reread(&node, &content).requests == before
    });
    drop(data);
    node.end();
}

#[test]
fn evicting_makes_room_for_readers_and_filling_does_not_take_it() {
    let (fixture, content) = image();
    let cache = Arc::new(tempfile::tempdir().unwrap());
    let limits = CacheLimits {
        size_max: crate::SizeMax::Bytes(3 << 20),
        free_min: 0,
    };
    let node = Node::mounted(cache, DataPath::Fuse, |config, runtime| {
        let config = ServerConfig {
            cache_limits: limits,
            ..config.clone()
        };
        Server::mount_node(&config, runtime).unwrap()
    });
    node.add(fixture.spec(1, &fixture.source()));
    let later = || crate::cache::account::now() + 60;
    for _ in 0..3 {
        let status = reread(&node, &content);
        assert!(
            status.bytes_disk <= 3 << 20 && status.read_errors == 0,
            "{status:?}"
        );
        assert!(node.trim_at(&[ImageId(1)], later()).unwrap() > 0);
    }
    let meter = node.cache_meter().status();
    assert!(
        meter.bytes_evicted > 0 && meter.bytes_refused > 0 && meter.write_errors == 0,
        "{meter:?}"
    );
    let before = node.status(ImageId(1)).unwrap();
    assert!(before.bytes_local < content.len() as u64 - CHUNK_LEN as u64);
    let served = node.tree.images.listed(1).unwrap();
    assert_eq!(
        served.supply.blobs().filter(|blob| blob.may_fill()).count(),
        1,
        "all of it went"
    );
}
