//! Blobs and trees to write, and what an image says, as a tree again.

use std::collections::{BTreeMap, HashMap};

use rafs::blob::{BlobBuilder, BlobInfo, BlobOptions};
use rafs::build::{self, Options};
use rafs::chunk::{Compressor, Digester, encode};
use rafs::image::check;
use rafs::tree::{Attr, ChunkId, Content, InodeId, Node};
use rafs::{BlobIndex, FileType, Image, Nid, Timestamp, Tree};
use sha2::{Digest as _, Sha256};

/// Chunk size of the images made here.
pub(crate) const CHUNK_SIZE: u32 = 4096;

/// What goes into every image made here.
pub(crate) fn options() -> Options {
    Options {
        chunk_size: CHUNK_SIZE,
        compressor: Compressor::Zstd,
        digester: Digester::Sha256,
        prefetch: Vec::new(),
    }
}

/// A blob whose chunks have the given contents, and the bytes of its file.
pub(crate) fn blob(contents: &[Vec<u8>]) -> (BlobInfo, Vec<u8>) {
    let mut builder = BlobBuilder::new(BlobOptions {
        chunk_size: CHUNK_SIZE,
        compressor: Compressor::Zstd,
        digester: Digester::Sha256,
    });
    let mut file = Vec::new();
    for content in contents {
        let chunk = encode(content.clone(), Compressor::Zstd, 1, Digester::Sha256);
        builder.push(&chunk).unwrap();
        file.extend_from_slice(&chunk.data);
    }
    let finished = builder.finish(Sha256::new_with_prefix(&file)).unwrap();
    file.extend_from_slice(&finished.tail);
    (finished.info, file)
}

/// A small tree with every kind of inode, two names for most, and its blobs.
pub(crate) fn sample() -> (Tree, Vec<BlobInfo>) {
    let mut tree = Tree::new(Attr::default());
    let sticky = Attr {
        permissions: 0o1777,
        ..Attr::default()
    };
    let directory = add(
        &mut tree,
        Tree::ROOT,
        "dir",
        sticky,
        Content::Directory(BTreeMap::new()),
    );
    let xattrs = [
        ("user.color", "blue"),
        ("security.capability", "x"),
        ("system.posix_acl_access", "y"),
    ];
    let attr = Attr {
        mtime: Timestamp { secs: -5, nanos: 7 },
        xattrs: xattrs.map(|(name, value)| (name.into(), value.into())).into(),
        ..Attr::default()
    };
    for (number, content) in sample_contents().into_iter().enumerate() {
        let id = add(
            &mut tree,
            Tree::ROOT,
            &format!("-first{number}"),
            attr.clone(),
            content,
        );
        let names = tree.names_mut(directory).unwrap();
        names.insert(format!("again{number}").into_bytes(), id);
    }
    for number in 0..40 {
        let name = format!("{}{number}", "n".repeat(200));
        add(
            &mut tree,
            directory,
            &name,
            Attr::default(),
            special(FileType::Socket, 0),
        );
    }
    let blobs = vec![blob(&[vec![1; 4096], vec![2; 100]]).0, blob(&[vec![3; 4096]]).0];
    (tree, blobs)
}

fn sample_contents() -> [Content; 6] {
    let chunk = |blob, index| ChunkId {
        blob: BlobIndex(blob),
        index,
    };
    let regular = |size, chunks| Content::Regular { size, chunks };
    [
        regular(0, vec![]),
        regular(8292, vec![chunk(0, 0), chunk(1, 0), chunk(0, 1)]),
        Content::Symlink(b"target".to_vec()),
        Content::Symlink(vec![b'x'; 4090]),
        special(FileType::CharDevice, 0x103),
        special(FileType::Fifo, 0),
    ]
}

fn special(file_type: FileType, rdev: u32) -> Content {
    Content::Special { file_type, rdev }
}

/// Adds an inode with one name.
fn add(tree: &mut Tree, parent: InodeId, name: &str, attr: Attr, content: Content) -> InodeId {
    let id = tree.add(Node { attr, content });
    tree.names_mut(parent).unwrap().insert(name.into(), id);
    id
}

/// Writes a bootstrap.
pub(crate) fn write(tree: &Tree, blobs: &[BlobInfo]) -> Vec<u8> {
    build::bootstrap(tree, blobs, &options()).unwrap()
}

/// Reads a whole image as a tree. Blob numbers are those of the image.
pub(crate) fn read(image: &Image<Vec<u8>>) -> Tree {
    assert_eq!(check(image.bytes()), Ok(Vec::new()));
    let root = image.inode(image.root()).unwrap();
    let mut tree = Tree::new(node(image, root.nid).attr);
    let mut known = HashMap::from([(root.nid, Tree::ROOT)]);
    let mut pending = vec![(root.nid, root.nid, Tree::ROOT)];
    while let Some((nid, parent, id)) = pending.pop() {
        let mut subdirectories = 0;
        let dir = image.inode(nid).unwrap();
        let mut entries = image.entries_from(&dir, 0).unwrap();
        while let Some(entry) = entries.next().map(Result::unwrap) {
            let again = image.lookup(&dir, entry.name).unwrap().unwrap();
            assert_eq!((again.nid, again.next), (entry.nid, entry.next));
            let rest = image.entries_from(&dir, entry.next).unwrap();
            assert_eq!(
                rest.map(|entry| entry.unwrap().nid).next(),
                entries.clone().map(|entry| entry.unwrap().nid).next()
            );
            match entry.name {
                b"." => assert_eq!(entry.nid, nid),
                b".." => assert_eq!(entry.nid, parent),
                name => {
                    let inode = image.inode(entry.nid).unwrap();
                    assert_eq!(inode.file_type, entry.file_type);
                    let child = *known.entry(entry.nid).or_insert_with(|| {
                        if inode.file_type == FileType::Directory {
                            pending.push((entry.nid, nid, InodeId(tree.node_count() as u32)));
                        }
                        tree.add(node(image, entry.nid))
                    });
                    subdirectories += u32::from(inode.file_type == FileType::Directory);
                    tree.names_mut(id).unwrap().insert(name.to_vec(), child);
                }
            }
        }
        assert_eq!(dir.nlink, 2 + subdirectories);
    }
    tree
}

/// Reads one inode; directories come without names.
fn node(image: &Image<Vec<u8>>, nid: Nid) -> Node {
    let inode = image.inode(nid).unwrap();
    let xattrs: BTreeMap<_, _> = (image.xattrs(&inode).unwrap())
        .map(|pair| pair.map(|(name, value)| (name, value.to_vec())).unwrap())
        .collect();
    for (name, value) in &xattrs {
        assert_eq!(image.xattr(&inode, name).unwrap(), Some(value.as_slice()));
    }
    assert_eq!(image.xattr(&inode, b"user.no such name").unwrap(), None);
    let content = match inode.file_type {
        FileType::Directory => Content::Directory(BTreeMap::new()),
        FileType::Symlink => Content::Symlink(image.symlink(&inode).unwrap().to_vec()),
        FileType::Regular => Content::Regular {
            size: inode.size,
            chunks: (image.extents(&inode, 0..u64::MAX).unwrap())
                .map(|extent| {
                    extent
                        .map(|extent| (extent.chunk.blob, extent.chunk.index))
                        .unwrap()
                })
                .map(|(blob, index)| ChunkId { blob, index })
                .collect(),
        },
        file_type => Content::Special {
            file_type,
            rdev: inode.rdev,
        },
    };
    Node {
        attr: Attr {
            permissions: inode.permissions,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
            xattrs,
        },
        content,
    }
}

/// A text in which two trees are equal if and only if they are the same file system: one line per name, hard links
/// by the first name of their inode.
pub(crate) fn describe(tree: &Tree, blob_of: impl Fn(BlobIndex) -> BlobIndex) -> Vec<String> {
    let mut lines = Vec::new();
    let mut first_names: HashMap<InodeId, Vec<u8>> = HashMap::new();
    let mut pending = vec![(Tree::ROOT, Vec::new())];
    while let Some((id, path)) = pending.pop() {
        let mut node = tree.node(id).clone();
        if let Content::Regular { chunks, .. } = &mut node.content {
            chunks
                .iter_mut()
                .for_each(|chunk| chunk.blob = blob_of(chunk.blob));
        }
        if let Content::Directory(names) = &mut node.content {
            let children = std::mem::take(names).into_iter().rev();
            pending.extend(children.map(|(name, child)| (child, [&path, b"/".as_slice(), &name].concat())));
        }
        let first = first_names.entry(id).or_insert_with(|| path.clone());
        lines.push(format!(
            "{} = {}: {node:?}",
            path.escape_ascii(),
            first.escape_ascii()
        ));
    }
    lines
}
