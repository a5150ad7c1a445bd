//! Disk space of blobs that no image needs any more.

use std::os::unix::fs::FileExt;

use rafs::Tree;

use super::*;
use crate::fixture::{Builder, CHUNK_LEN, Fixture, mode, noise};

/// Images whose file `file` is in the cache.
struct Setup {
    node: Node,
    images: Vec<(Fixture, Vec<u8>)>,
}

fn setup(count: u8) -> Setup {
    let node = Node::new();
    let image = |id: u8| {
        let mut builder = Builder::new();
        let content = noise(8 * CHUNK_LEN, id.into());
        builder.file(Tree::ROOT, "file", mode(0o644), &content);
        let fixture = builder.finish();
        let file = node.add(fixture.spec(id.into(), &fixture.source())).join("file");
        assert_eq!(std::fs::read(file).unwrap(), content);
        (fixture, content)
    };
    let images = (1..=count).map(image).collect();
    Setup { node, images }
}

impl Setup {
    fn is_cached(&self, index: usize) -> bool {
        let id = &self.images[index].0.blob_id;
        let dir = self.node.cache.path().join("v1").join(&id[..2]).join(id);
        dir.join("data").exists()
    }
}

#[test]
fn only_what_no_image_needs_is_deleted() {
    let setup = setup(4);
    let Setup { node, images } = &setup;
    // The third image also exists under another number, which goes on being served.
    let (third, content) = &images[2];
    let twin = node.add(third.spec(9, &third.source())).join("file");
    assert_eq!(&std::fs::read(&twin).unwrap(), content);
    for id in [1, 2, 3] {
        node.remove(ImageId(id));
    }
    assert!(
        (0..4).all(|index| setup.is_cached(index)),
        "removing deletes nothing"
    );

    // The second image is known, but not served at the moment.
    let keep = [images[1].0.bootstrap()];
    assert_eq!(node.reclaim(&keep).unwrap(), 1);
    let cached: Vec<_> = (0..4).map(|index| setup.is_cached(index)).collect();
    assert_eq!(cached, [false, true, true, true]);
    assert_eq!(node.reclaim(&keep).unwrap(), 0);
    assert_eq!(node.reclaim(&[]).unwrap(), 1);
    assert!(!setup.is_cached(1));
}

#[test]
fn files_that_are_open_read_on() {
    let setup = setup(1);
    let (fixture, content) = &setup.images[0];
    let path = setup.node.path(ImageId(1)).join("file");
    let open = std::fs::File::open(&path).unwrap();
    setup.node.remove(ImageId(1));
    assert_eq!(setup.node.reclaim(&[]).unwrap(), 1);
    rustix::fs::fadvise(&open, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let mut bytes = vec![0; content.len()];
    open.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, content);

    // Another image of the same blob starts anew, and is not disturbed by the first.
    let again = setup.node.add(fixture.spec(2, &fixture.source())).join("file");
    assert!(setup.is_cached(0));
    assert_eq!(&std::fs::read(again).unwrap(), content);
    assert_eq!(setup.node.reclaim(&[]).unwrap(), 0);
}

#[test]
fn a_bootstrap_that_is_gone_or_damaged_holds_nothing_up() {
    let setup = setup(1);
    setup.node.remove(ImageId(1));
    let dir = tempfile::tempdir().unwrap();
    let damaged = dir.path().join("damaged");
    std::fs::write(&damaged, [0; 8192]).unwrap();
    let keep = [damaged, dir.path().join("gone")];
    assert_eq!(setup.node.reclaim(&keep).unwrap(), 1);
}

#[test]
fn nothing_is_deleted_while_a_bootstrap_cannot_be_read() {
    let setup = setup(1);
    setup.node.remove(ImageId(1));
    let dir = tempfile::tempdir().unwrap();
    // A folder cannot be mapped, which says nothing about what the image needs.
    let error = setup.node.reclaim(&[dir.path().to_owned()]).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert!(setup.is_cached(0));
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
