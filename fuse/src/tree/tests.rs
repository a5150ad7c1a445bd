use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rafs::tree::Content;

use super::*;
use crate::cache::Cache;
use crate::fetch::Engine;
use crate::fixture::{Builder, CHUNK_LEN, Fixture, mode};

/// A tree over one small image, without a mount.
struct Bare {
    tree: Tree,
    cache: Cache,
    engine: Arc<Engine>,
    fixture: Fixture,
    _cache_dir: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

fn bare(top: Top, ids: &[u32]) -> Bare {
    let mut builder = Builder::new();
    let dir = builder.dir(rafs::Tree::ROOT, "dir");
    builder.file(dir, "file", mode(0o640), &[7; 3 * CHUNK_LEN + 1]);
    builder.add(dir, "link", mode(0o777), Content::Symlink(b"file".to_vec()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let cache_dir = tempfile::tempdir().unwrap();
    let bare = Bare {
        tree: Tree::new(top),
        cache: Cache::open(cache_dir.path(), crate::CacheLimits::default()).unwrap(),
        engine: Engine::new(runtime.handle().clone(), Duration::from_secs(1)),
        fixture: builder.finish(),
        _cache_dir: cache_dir,
        _runtime: runtime,
    };
    for &id in ids {
        bare.add(id);
    }
    bare
}

impl Bare {
    fn add(&self, id: u32) {
        let spec = self.fixture.spec(id, &self.fixture.source());
        self.tree
            .images
            .add(Served::open(spec, &self.cache, &self.engine).unwrap());
    }

    fn walk(&self, from: u64, path: &str) -> Result<Attr, Error> {
        path.split('/').try_fold(self.tree.attr(from)?, |attr, name| {
            self.tree
                .lookup(attr.ino, name.as_bytes())?
                .ok_or(Error::NotFound)
        })
    }

    /// Names with numbers, listed one at a time.
    fn list(&self, ino: u64) -> BTreeMap<String, u64> {
        let mut names = BTreeMap::new();
        let mut cookie = 0;
        loop {
            let before = names.len();
            self.tree
                .list(ino, cookie, &mut |listed| {
                    names.insert(String::from_utf8(listed.name.to_vec()).unwrap(), listed.ino);
                    cookie = listed.next;
                    ControlFlow::Break(())
                })
                .unwrap();
            if names.len() == before {
                return names;
            }
        }
    }
}

#[test]
fn numbers_are_those_of_image_and_inode() {
    let bare = bare(Top::Node, &[3, 4]);
    let (three, four) = (
        bare.walk(ROOT, "images/3/dir/file").unwrap(),
        bare.walk(ROOT, "images/4/dir/file").unwrap(),
    );
    assert_eq!((three.ino >> 40, four.ino >> 40), (3, 4));
    assert_eq!(three.ino & 0xff_ffff_ffff, four.ino & 0xff_ffff_ffff);
    assert_eq!(bare.tree.attr(three.ino).unwrap(), three);
    assert_eq!(
        (three.size, three.blocks, three.permissions),
        (3 * CHUNK_LEN as u64 + 1, 25, 0o640)
    );
}

#[test]
fn dot_dot_of_an_image_leads_out_of_it() {
    let bare = bare(Top::Node, &[3]);
    let root = bare.walk(ROOT, "images/3").unwrap().ino;
    let dir = bare.walk(ROOT, "images/3/dir").unwrap().ino;
    assert_eq!(
        bare.list(root),
        [(".", root), ("..", IMAGES), ("dir", dir)].map(own).into()
    );
    assert_eq!(bare.list(dir)[".."], root);
    assert_eq!(
        bare.list(IMAGES),
        [(".", IMAGES), ("..", ROOT), ("3", root)].map(own).into()
    );
    assert_eq!(
        bare.list(ROOT),
        [(".", ROOT), ("..", ROOT), ("images", IMAGES), ("blobs", BLOBS)]
            .map(own)
            .into()
    );
}

#[test]
fn the_root_of_an_image_alone_is_number_one() {
    let bare = bare(Top::Image(ImageId(9)), &[9]);
    let dir = bare.walk(ROOT, "dir").unwrap().ino;
    assert_eq!(
        bare.list(ROOT),
        [(".", ROOT), ("..", ROOT), ("dir", dir)].map(own).into()
    );
    assert_eq!(bare.list(dir)[".."], ROOT);
    assert!(matches!(bare.tree.attr(IMAGES), Err(Error::Stale)));
}

fn own((name, ino): (&str, u64)) -> (String, u64) {
    (name.to_owned(), ino)
}

#[test]
fn requests_of_the_wrong_kind_are_told_so() {
    let bare = bare(Top::Node, &[3]);
    let dir = bare.walk(ROOT, "images/3/dir").unwrap().ino;
    let file = bare.walk(ROOT, "images/3/dir/file").unwrap().ino;
    let link = bare.walk(ROOT, "images/3/dir/link").unwrap().ino;
    assert!(matches!(bare.tree.lookup(file, b"x"), Err(Error::NotDirectory)));
    assert!(matches!(
        bare.tree.list(file, 0, &mut |_| ControlFlow::Continue(())),
        Err(Error::NotDirectory)
    ));
    assert!(matches!(bare.tree.runs(dir, 0, 1), Err(Error::IsDirectory)));
    assert!(matches!(bare.tree.runs(link, 0, 1), Err(Error::WrongKind)));
    assert!(matches!(bare.tree.readlink(file, |_| ()), Err(Error::WrongKind)));
    assert_eq!(bare.tree.readlink(link, <[u8]>::to_vec).unwrap(), b"file");
    assert!(matches!(
        bare.tree.xattr(ROOT, b"user.x", |_| ()),
        Err(Error::NoAttribute)
    ));
}

#[test]
fn absent_names_may_be_kept_in_images_only() {
    let bare = bare(Top::Node, &[3]);
    let dir = bare.walk(ROOT, "images/3/dir").unwrap().ino;
    assert_eq!(bare.tree.lookup(dir, b"none").unwrap(), None);
    for name in ["4", "03", "+3", "", "x", "99999999999999"] {
        assert!(
            matches!(bare.tree.lookup(IMAGES, name.as_bytes()), Err(Error::NotFound)),
            "{name}"
        );
    }
    assert_eq!(Lifetime::of_names_in(IMAGES), Lifetime::Now);
    assert_eq!(Lifetime::of_names_in(dir), Lifetime::Forever);
}

#[test]
fn reads_are_cut_to_the_file() {
    let bare = bare(Top::Node, &[3]);
    let file = bare.walk(ROOT, "images/3/dir/file").unwrap();
    let len = |offset, len| {
        let (_, runs) = bare.tree.runs(file.ino, offset, len).unwrap();
        runs.iter().map(|run| u64::from(run.len())).sum::<u64>()
    };
    assert_eq!(len(0, 1 << 20), file.size);
    assert_eq!(len(file.size - 1, 100), 1);
    assert_eq!((len(file.size, 1), len(u64::MAX, u32::MAX)), (0, 0));
}

#[test]
fn a_removed_image_lasts_as_long_as_the_kernel_knows_of_it() {
    let bare = bare(Top::Node, &[3, 4]);
    let file = bare.walk(ROOT, "images/3/dir/file").unwrap().ino;
    bare.tree.remember(file);
    bare.tree.remember(file);
    let before = bare.tree.images.changed();
    assert!(bare.tree.images.remove(3) && bare.tree.images.remove(4));
    assert!(bare.tree.images.changed() > before);
    assert!(matches!(bare.tree.lookup(IMAGES, b"3"), Err(Error::NotFound)));
    assert!(bare.tree.attr(file).is_ok());
    bare.tree.forget(file, 1);
    assert!(bare.tree.attr(file).is_ok());
    bare.tree.forget(file, 1);
    assert!(matches!(bare.tree.attr(file), Err(Error::Stale)));
    assert!(!bare.tree.images.remove(3), "gone");
}

#[test]
fn a_removed_image_that_comes_back_is_the_same() {
    let bare = bare(Top::Node, &[3]);
    let file = bare.walk(ROOT, "images/3/dir/file").unwrap().ino;
    bare.tree.remember(file);
    bare.tree.images.remove(3);
    bare.add(3);
    assert_eq!(bare.walk(ROOT, "images/3/dir/file").unwrap().ino, file);
    bare.tree.forget(file, 1);
    assert!(bare.tree.attr(file).is_ok());
}

#[test]
fn numbers_of_nothing_are_stale_or_corrupt_and_never_more() {
    let bare = bare(Top::Node, &[3]);
    for ino in [0, 4, 1 << 40, 4 << 40, u64::MAX, 1 << 63] {
        assert!(matches!(bare.tree.attr(ino), Err(Error::Stale)), "{ino}");
    }
    for nid in [0, 1, 1 << 20, (1 << 40) - 1] {
        // Whether such a number is an inode or not is for the bootstrap's reader to say.
        let _ = bare.tree.attr(3 << 40 | nid);
    }
}
