//! A cache whose disk is full.

use std::ffi::CString;

use rafs::Tree;
use rustix::mount::{MountFlags, UnmountFlags};

use super::*;
use crate::fixture::{Builder, CHUNK_LEN, mode, noise};

/// A file system of limited size in memory. Dropping it unmounts.
struct Disk {
    dir: TempDir,
}

impl Disk {
    fn new(size: &str) -> Self {
        let disk = Disk {
            dir: tempfile::tempdir().unwrap(),
        };
        let options = options(size);
        rustix::mount::mount(
            "none",
            disk.dir.path(),
            "tmpfs",
            MountFlags::empty(),
            options.as_c_str(),
        )
        .unwrap();
        disk
    }

    fn resize(&self, size: &str) {
        rustix::mount::mount_remount(self.dir.path(), MountFlags::empty(), options(size).as_c_str()).unwrap();
    }
}

fn options(size: &str) -> CString {
    CString::new(format!("size={size}")).unwrap()
}

impl Drop for Disk {
    fn drop(&mut self) {
        rustix::mount::unmount(self.dir.path(), UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn a_full_disk_costs_fetches_and_no_reads() {
    const LEN: usize = 4 << 20;
    let mut builder = Builder::new();
    let content = noise(LEN, 9);
    builder.file(Tree::ROOT, "big", mode(0o644), &content);
    let fixture = builder.finish();
    let disk = Disk::new("1m");
    let cache = Arc::new(tempfile::tempdir_in(disk.dir.path()).unwrap());
    let node = Node::on(cache);
    let file = node.add(fixture.spec(1, &fixture.source())).join("big");
    let read = || {
        assert!(std::fs::read(&file).unwrap() == content);
        drop_page_cache(&file);
        node.status(ImageId(1)).unwrap()
    };
    let full = read();
    assert!(full.cache_errors > 0 && full.read_errors == 0, "{full:?}");
    assert!(full.bytes_local < full.bytes_total - CHUNK_LEN as u64, "{full:?}");
    let again = read();
    assert!(
        again.requests > full.requests && again.read_errors == 0,
        "{again:?}"
    );
    // With room, the cache fills as if nothing had been.
    disk.resize("64m");
    let roomy = read();
    assert_eq!(roomy.bytes_local, roomy.bytes_total);
    assert_eq!(read().requests, roomy.requests);
    node.end();
}
