//! A tree that is written and read back is the same tree.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rafs::build::{self, BuildError};
use rafs::tree::{Attr, ChunkId, Content, InodeId, Node};
use rafs::{BlobIndex, FileType, Image, Nid, Timestamp, Tree};

use crate::model::{self, CHUNK_SIZE};

/// Lengths of the chunks that generated files are made of.
const TAILS: [u64; 4] = [1, 100, 4095, 4096];

/// Two blobs with one full chunk and one of each tail length.
fn blobs() -> Vec<rafs::blob::BlobInfo> {
    let contents = |seed: u8| -> Vec<Vec<u8>> {
        (0_u8..)
            .zip(TAILS)
            .map(|(number, len)| vec![seed + number; len as usize])
            .collect()
    };
    vec![model::blob(&contents(10)).0, model::blob(&contents(20)).0]
}

fn attr() -> impl Strategy<Value = Attr> {
    let name = prop_oneof![
        Just(b"system.posix_acl_access".to_vec()),
        Just(b"system.posix_acl_default".to_vec()),
        (
            prop::sample::select(vec!["user.", "trusted.", "security."]),
            "[a-z.é]{1,40}"
        )
            .prop_map(|(prefix, suffix)| [prefix, &suffix].concat().into_bytes()),
    ];
    let value = prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..40),
        1 => prop::collection::vec(any::<u8>(), 3000..6000),
    ];
    let xattrs = prop_oneof![
        3 => Just(BTreeMap::new()),
        1 => prop::collection::btree_map(name, value, 1..4),
    ];
    (
        0..=0o7777_u16,
        any::<u32>(),
        any::<u32>(),
        any::<i64>(),
        0..1_000_000_000_u32,
        xattrs,
    )
        .prop_map(|(permissions, uid, gid, secs, nanos, xattrs)| Attr {
            permissions,
            uid,
            gid,
            mtime: Timestamp { secs, nanos },
            xattrs,
        })
}

fn content() -> impl Strategy<Value = Content> {
    let regular = (0..6_usize, 0..=TAILS.len(), any::<bool>()).prop_map(|(full, tail, second)| {
        let blob = BlobIndex(u16::from(second));
        let mut chunks = vec![ChunkId { blob, index: 3 }; full];
        let mut size = full as u64 * u64::from(CHUNK_SIZE);
        if let Some(len) = TAILS.get(tail) {
            chunks.push(ChunkId {
                blob,
                index: tail as u32,
            });
            size += len;
        }
        Content::Regular { size, chunks }
    });
    let special = prop::sample::select(vec![FileType::CharDevice, FileType::BlockDevice]);
    let pipe = prop::sample::select(vec![FileType::Fifo, FileType::Socket]);
    prop_oneof![
        4 => regular,
        4 => Just(Content::Directory(BTreeMap::new())),
        1 => prop::collection::vec(1..=255_u8, 1..=4096).prop_map(Content::Symlink),
        1 => prop::collection::vec(1..=255_u8, 1..60).prop_map(Content::Symlink),
        1 => (special, any::<u32>()).prop_map(|(file_type, rdev)| Content::Special { file_type, rdev }),
        1 => pipe.prop_map(|file_type| Content::Special { file_type, rdev: 0 }),
    ]
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("no slash, no NUL", |byte| !matches!(byte, 0 | b'/'));
    prop_oneof![
        3 => prop::collection::vec(byte.clone(), 1..12),
        1 => prop::collection::vec(byte, 255..=255),
        1 => "[-+#.]{1,3}x".prop_map(String::into_bytes),
    ]
    .prop_filter("reserved", |name| name != b"." && name != b"..")
}

/// A tree where each inode goes into some directory before it; some get further names, some lose theirs.
fn tree() -> impl Strategy<Value = Tree> {
    let node = (content(), attr(), name(), any::<prop::sample::Index>());
    let links = prop::collection::vec(
        (any::<prop::sample::Index>(), any::<prop::sample::Index>(), name()),
        0..10,
    );
    (attr(), prop::collection::vec(node, 0..80), links).prop_map(|(root, nodes, links)| {
        let mut tree = Tree::new(root);
        let mut directories = vec![Tree::ROOT];
        let mut others: Vec<InodeId> = Vec::new();
        for (content, attr, name, parent) in nodes {
            let is_directory = matches!(content, Content::Directory(_));
            let id = tree.add(Node { attr, content });
            let parent = *parent.get(&directories);
            tree.names_mut(parent).unwrap().insert(name, id);
            if is_directory {
                directories.push(id);
            } else {
                others.push(id);
            }
        }
        for (target, directory, name) in links.into_iter().filter(|_| !others.is_empty()) {
            let directory = *directory.get(&directories);
            tree.names_mut(directory)
                .unwrap()
                .insert(name, *target.get(&others));
        }
        tree
    })
}

/// Blob numbers in the image: blobs that no reachable file uses are left out.
fn renumber(tree: &Tree, blob_count: u16) -> Vec<Option<BlobIndex>> {
    let text = model::describe(tree, |blob| blob).join("\n");
    let mut next = 0;
    (0..blob_count)
        .map(|blob| {
            text.contains(&format!("BlobIndex({blob})")).then(|| {
                next += 1;
                BlobIndex(next - 1)
            })
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn trees_come_back(tree in tree()) {
        let blobs = blobs();
        let bytes = model::write(&tree, &blobs);
        prop_assert_eq!(&bytes, &model::write(&tree, &blobs));
        let image = Image::open(bytes).unwrap();
        let numbers = renumber(&tree, 2);
        prop_assert_eq!(
            model::describe(&model::read(&image), |blob| blob),
            model::describe(&tree, |blob| numbers[usize::from(blob.0)].unwrap())
        );
        prop_assert_eq!(image.blobs().len(), numbers.iter().flatten().count());
    }
}

#[test]
fn a_directory_of_100_000_names() {
    let mut tree = Tree::new(Attr::default());
    for number in 0..100_000 {
        let content = Content::Regular {
            size: 0,
            chunks: Vec::new(),
        };
        let id = tree.add(Node {
            attr: Attr::default(),
            content,
        });
        let name = format!("{number:x}-{}", "n".repeat(number % 60)).into_bytes();
        tree.names_mut(Tree::ROOT).unwrap().insert(name, id);
    }
    let image = Image::open(model::write(&tree, &[])).unwrap();
    assert_eq!(
        model::describe(&model::read(&image), |blob| blob),
        model::describe(&tree, |blob| blob)
    );
    let root = image.inode(image.root()).unwrap();
    for absent in ["", "!", "zzzz", "1-nn", "fffff"] {
        assert!(image.lookup(&root, absent.as_bytes()).unwrap().is_none());
    }
}

#[test]
fn an_empty_image() {
    let image = Image::open(model::write(&Tree::new(Attr::default()), &[])).unwrap();
    assert_eq!(image.root(), Nid(128));
    assert_eq!(image.inode_count(), 1);
    assert!(image.blobs().is_empty());
    let root = image.inode(image.root()).unwrap();
    let names: Vec<_> = (image.entries_from(&root, 0).unwrap())
        .map(|entry| entry.unwrap().name)
        .collect();
    assert_eq!(names, [b".".as_slice(), b".."]);
}

#[test]
fn a_file_of_5_gib() {
    let (blob, _) = model::blob(&[vec![7; 4096], vec![7; 100]]);
    let full = 5 << 18;
    let mut chunks = vec![
        ChunkId {
            blob: BlobIndex(0),
            index: 0
        };
        full
    ];
    chunks.push(ChunkId {
        blob: BlobIndex(0),
        index: 1,
    });
    let size = full as u64 * 4096 + 100;
    let mut tree = Tree::new(Attr::default());
    let content = Content::Regular { size, chunks };
    let id = tree.add(Node {
        attr: Attr::default(),
        content,
    });
    tree.names_mut(Tree::ROOT).unwrap().insert(b"big".to_vec(), id);
    let image = Image::open(model::write(&tree, &[blob])).unwrap();
    let root = image.inode(image.root()).unwrap();
    let entry = image.lookup(&root, b"big").unwrap().unwrap();
    let inode = image.inode(entry.nid).unwrap();
    assert_eq!(inode.size, size);
    let extents = image.extents(&inode, size - 150..u64::MAX).unwrap();
    let pieces: Vec<_> = extents
        .map(|extent| {
            extent
                .map(|extent| (extent.chunk.index, extent.skip, extent.len))
                .unwrap()
        })
        .collect();
    assert_eq!(pieces, [(0, 4046, 50), (1, 0, 100)]);
}

#[test]
fn inodes_to_prefetch() {
    let mut tree = Tree::new(Attr::default());
    let link = |target: &str| Node {
        attr: Attr::default(),
        content: Content::Symlink(target.into()),
    };
    let (linked, lost) = (tree.add(link("one")), tree.add(link("two")));
    tree.names_mut(Tree::ROOT)
        .unwrap()
        .insert(b"link".to_vec(), linked);
    let mut options = model::options();
    options.prefetch = vec![linked, lost, Tree::ROOT];
    let image = Image::open(build::bootstrap(&tree, &[], &options).unwrap()).unwrap();
    let root = image.inode(image.root()).unwrap();
    let entry = image.lookup(&root, b"link").unwrap().unwrap();
    assert_eq!(image.prefetch(), [entry.nid, image.root()]);
}

/// A tree with one name in its root.
fn tree_of(name: &[u8], attr: Attr, content: Content) -> Tree {
    let mut tree = Tree::new(Attr::default());
    let id = tree.add(Node { attr, content });
    tree.names_mut(Tree::ROOT).unwrap().insert(name.to_vec(), id);
    tree
}

fn error(tree: &Tree) -> BuildError {
    build::bootstrap(tree, &[], &model::options()).unwrap_err()
}

#[test]
fn what_the_format_cannot_say_is_refused() {
    let directory = || Content::Directory(BTreeMap::new());
    for name in [b"".as_slice(), b"..", b"a/b", b"a\0", &[b'n'; 256]] {
        let error = error(&tree_of(name, Attr::default(), directory()));
        assert!(matches!(error, BuildError::Name { name: named, .. } if named == name));
    }
    for name in ["os2.thing", "user.", "system.nfs4_acl"] {
        let xattrs = BTreeMap::from([(name.into(), Vec::new())]);
        let attr = Attr {
            xattrs,
            ..Attr::default()
        };
        let error = error(&tree_of(b"a", attr, directory()));
        assert!(error.to_string().contains(name), "{error}");
    }
    let long = Content::Symlink(vec![b'x'; 4097]);
    assert!(matches!(
        error(&tree_of(b"a", Attr::default(), long)),
        BuildError::Inode { .. }
    ));
    let chunks = vec![ChunkId {
        blob: BlobIndex(0),
        index: 0,
    }];
    let lost = Content::Regular { size: 1, chunks };
    assert!(matches!(
        error(&tree_of(b"a", Attr::default(), lost)),
        BuildError::Inode { .. }
    ));
}

#[test]
fn directories_with_two_names_or_in_a_loop_are_refused() {
    let mut tree = tree_of(b"a", Attr::default(), Content::Directory(BTreeMap::new()));
    tree.names_mut(InodeId(1))
        .unwrap()
        .insert(b"up".to_vec(), Tree::ROOT);
    assert!(matches!(
        error(&tree),
        BuildError::Inode {
            inode: Tree::ROOT,
            ..
        }
    ));

    let mut tree = tree_of(b"a", Attr::default(), Content::Directory(BTreeMap::new()));
    tree.names_mut(Tree::ROOT)
        .unwrap()
        .insert(b"b".to_vec(), InodeId(1));
    assert!(matches!(
        error(&tree),
        BuildError::Inode {
            inode: InodeId(1),
            ..
        }
    ));
}
