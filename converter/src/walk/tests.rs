//! Images that lead in circles, or say in few bytes more than anybody can list.

use bytes::Bytes;
use rafs::build::{Options, bootstrap};
use rafs::tree::{Attr, Content, InodeId, Node};
use rafs::{Compressor, Digester, Tree};

use super::*;
use crate::check::check_bootstrap;
use crate::listing::list;

/// `/one/two/three`, three directories.
fn image() -> Vec<u8> {
    let mut tree = Tree::new(Attr::default());
    let mut at = Tree::ROOT;
    for name in ["one", "two", "three"] {
        at = add(&mut tree, at, name);
    }
    write(&tree)
}

fn add(tree: &mut Tree, parent: InodeId, name: &str) -> InodeId {
    let id = tree.add(Node {
        attr: Attr::default(),
        content: Content::Directory(Default::default()),
    });
    tree.names_mut(parent).unwrap().insert(name.into(), id);
    id
}

fn write(tree: &Tree) -> Vec<u8> {
    let options = Options {
        chunk_size: 4096,
        compressor: Compressor::None,
        digester: Digester::Sha256,
        prefetch: Vec::new(),
    };
    bootstrap(tree, &[], &options).unwrap()
}

fn open(bytes: &[u8]) -> Image<Bytes> {
    Image::open(Bytes::copy_from_slice(bytes)).unwrap()
}

fn nid(image: &Image<Bytes>, path: &str) -> Nid {
    let root = image.inode(image.root()).unwrap();
    let parts = path.split('/').filter(|part| !part.is_empty());
    let inode = parts.fold(root, |dir, name| {
        let entry = image.lookup(&dir, name.as_bytes()).unwrap().unwrap();
        image.inode(entry.nid).unwrap()
    });
    inode.nid
}

/// Lets the name of the directory `from` lead to `to`.
fn redirect(bytes: &mut [u8], from: Nid, to: Nid) {
    // An entry is the number, two bytes, and the kind: 2 for directories. The first that leads there stands in the
    // parent, which lies before its child; what follows is the child's own ".".
    let is_entry = |at: &usize| bytes[*at..at + 8] == from.0.to_le_bytes() && bytes[at + 10] == 2;
    let at = (0..bytes.len() - 12).find(is_entry).unwrap();
    bytes[at..at + 8].copy_from_slice(&to.0.to_le_bytes());
}

#[test]
fn a_directory_inside_itself_ends_every_reader() {
    let mut bytes = image();
    let good = open(&bytes);
    assert_eq!(walk(&good).unwrap().len(), 4);
    redirect(&mut bytes, nid(&good, "one/two/three"), nid(&good, "one"));
    let image = open(&bytes);
    let error = walk(&image).unwrap_err();
    assert!(error.to_string().contains("loop"), "{error}");
    let faults = check_bootstrap(image.bytes()).unwrap().faults;
    assert!(faults.iter().any(|fault| fault.contains("loop")), "{faults:?}");
    // Listing goes as far as it is asked to, and no further.
    let lines = list(&image, "one/two/three/two/three/two".as_ref()).unwrap();
    assert_eq!(lines.len(), 1);
}

#[test]
fn directories_with_several_names_are_not_multiplied() {
    // Each of thirty levels leads twice to the next: a thousand million paths.
    let mut tree = Tree::new(Attr::default());
    let mut at = Tree::ROOT;
    let mut names = Vec::new();
    for level in 0..30 {
        names.push((format!("{level}a"), format!("{level}b")));
        add(&mut tree, at, &names[level].1);
        at = add(&mut tree, at, &names[level].0);
    }
    let mut bytes = write(&tree);
    let good = open(&bytes);
    let mut path = String::new();
    for (one, other) in names {
        let (target, twin) = (
            nid(&good, &format!("{path}{one}")),
            nid(&good, &format!("{path}{other}")),
        );
        redirect(&mut bytes, twin, target);
        path += &format!("{one}/");
    }
    let image = open(&bytes);
    assert!(walk(&image).unwrap_err().to_string().contains("several names"));
    assert_ne!(
        check_bootstrap(image.bytes()).unwrap().faults,
        Vec::<String>::new()
    );
}

/// A directory of many names of one empty file.
fn crowd(tree: &mut Tree, parent: InodeId, name: &str, count: usize) {
    let dir = add(tree, parent, name);
    let file = tree.add(Node {
        attr: Attr::default(),
        content: Content::Regular {
            size: 0,
            chunks: Vec::new(),
        },
    });
    let names = tree.names_mut(dir).unwrap();
    names.extend((0..count).map(|number| (format!("{number:05}").into_bytes(), file)));
}

#[test]
fn paths_of_gigabytes_are_not_listed() {
    let mut tree = Tree::new(Attr::default());
    let mut at = Tree::ROOT;
    for _ in 0..15 {
        at = add(&mut tree, at, &"x".repeat(255));
    }
    crowd(&mut tree, at, "crowd", 40_000);
    let bytes = write(&tree);
    assert_eq!(check_bootstrap(&bytes).unwrap().faults, Vec::<String>::new());
    let error = walk(&open(&bytes)).unwrap_err();
    assert!(error.to_string().contains("share their blocks"), "{error}");
}

#[test]
fn directories_that_share_their_blocks_are_not_listed() {
    let mut tree = Tree::new(Attr::default());
    crowd(&mut tree, Tree::ROOT, "crowd", 5000);
    let mut twins = Vec::new();
    for number in 0..20 {
        twins.push(format!("twin{number}"));
        add(&mut tree, Tree::ROOT, &twins[number]);
    }
    let mut bytes = write(&tree);
    let good = open(&bytes);
    let meta = u32::from_le_bytes(bytes[1024 + 40..][..4].try_into().unwrap()) as usize * 4096;
    let offset = |name: &str| meta + nid(&good, name).0 as usize * 32;
    let crowd = offset("crowd");
    let whole = u64::from_le_bytes(bytes[crowd + 8..][..8].try_into().unwrap()) / 4096 * 4096;
    let block = bytes[crowd + 16..][..4].to_vec();
    // Plain, and the whole blocks of the crowd.
    let forged: Vec<usize> = twins.iter().map(|twin| offset(twin)).collect();
    for at in forged {
        bytes[at..at + 2].copy_from_slice(&1_u16.to_le_bytes());
        bytes[at + 8..at + 16].copy_from_slice(&whole.to_le_bytes());
        bytes[at + 16..at + 20].copy_from_slice(&block);
    }
    let error = walk(&open(&bytes)).unwrap_err();
    assert!(error.to_string().contains("share their blocks"), "{error}");
    let faults = check_bootstrap(&bytes).unwrap().faults;
    assert!(
        faults
            .iter()
            .any(|fault| fault.contains("overlaps something else")),
        "{faults:?}"
    );
}

#[test]
fn paths_longer_than_linux_names_are_refused() {
    let mut tree = Tree::new(Attr::default());
    let mut at = Tree::ROOT;
    for _ in 0..16 {
        at = add(&mut tree, at, &"x".repeat(255));
    }
    let deep = write(&tree);
    assert_eq!(walk(&open(&deep)).unwrap().len(), 17);
    add(&mut tree, at, "x");
    let error = walk(&open(&write(&tree))).unwrap_err();
    assert!(error.to_string().contains("4095"), "{error}");
}
