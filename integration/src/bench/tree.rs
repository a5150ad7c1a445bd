//! A big tree that looks like installed Python packages: the same on every run, as a RAFS image and as real files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rafs::blob::{BlobBuilder, BlobInfo, BlobOptions};
use rafs::build::{self, Options};
use rafs::chunk::EncodedChunk;
use rafs::tree::{Attr, ChunkId, Content, InodeId, Node};
use rafs::{BlobIndex, Compressor, Digester, Tree};
use sha2::{Digest as _, Sha256};

/// Bytes per chunk, the default.
const CHUNK_SIZE: u32 = 1 << 20;
/// Modules of one folder; each has its source and its compiled form.
const MODULES: u32 = 9;
/// Folders of one package.
const FOLDERS: u32 = 10;
/// One module in so many is a shared object of several chunks.
const LIBRARY_EVERY: u32 = 40;
/// Stored bytes of a chunk by its number: what they are does not matter here, only that they are counted.
const STORED_LEN: usize = 64;

/// The image.
pub struct Sample {
    /// Its bootstrap.
    pub bootstrap: Vec<u8>,
    /// Every path, without a leading slash, and its size unless it is a directory. Parents come first.
    pub paths: Vec<(PathBuf, Option<u64>)>,
    /// Chunks of all files.
    pub chunk_count: u32,
}

/// Makes an image of `inode_count` inodes, the root included.
pub fn make(inode_count: usize) -> Result<Sample> {
    let mut maker = Maker {
        tree: Tree::new(Attr::default()),
        paths: Vec::new(),
        blob: BlobBuilder::new(BlobOptions {
            chunk_size: CHUNK_SIZE,
            compressor: Compressor::Zstd,
            digester: Digester::Sha256,
        }),
        chunk_count: 0,
        left: inode_count.checked_sub(1).context("an image has a root")?,
    };
    maker.packages();
    let blob = maker
        .blob
        .finish(Sha256::new())
        .context("some file has content")?;
    let bootstrap = bootstrap(&maker.tree, &[blob.info])?;
    ensure!(maker.paths.len() + 1 == inode_count, "the tree has another size");
    Ok(Sample {
        bootstrap,
        paths: maker.paths,
        chunk_count: maker.chunk_count,
    })
}

fn bootstrap(tree: &Tree, blobs: &[BlobInfo]) -> Result<Vec<u8>> {
    let options = Options {
        chunk_size: CHUNK_SIZE,
        compressor: Compressor::Zstd,
        digester: Digester::Sha256,
        prefetch: Vec::new(),
    };
    build::bootstrap(tree, blobs, &options).context("write the bootstrap")
}

struct Maker {
    tree: Tree,
    paths: Vec<(PathBuf, Option<u64>)>,
    blob: BlobBuilder,
    chunk_count: u32,
    left: usize,
}

impl Maker {
    /// `usr/lib/python3/packages/package_N/part_N/{module_N.py,__pycache__/module_N.pyc}` until nothing is left.
    fn packages(&mut self) {
        let mut at = (Tree::ROOT, PathBuf::new());
        for name in ["usr", "lib", "python3", "packages"] {
            let Some(next) = self.folder(&at, name) else {
                return;
            };
            at = next;
        }
        for number in 0.. {
            let Some(package) = self.folder(&at, &format!("package_{number:05}")) else {
                return;
            };
            for part in 0..FOLDERS {
                let Some(folder) = self.folder(&package, &format!("part_{part}")) else {
                    return;
                };
                self.modules(&folder, number * FOLDERS + part);
            }
        }
    }

    fn modules(&mut self, folder: &(InodeId, PathBuf), number: u32) {
        let Some(cache) = self.folder(folder, "__pycache__") else {
            return;
        };
        for module in 0..MODULES {
            let number = number * MODULES + module;
            let len = 200 + u64::from(number.wrapping_mul(2_654_435_761) % 60_000);
            match number % LIBRARY_EVERY {
                0 => self.file(folder, &format!("module_{module}.so"), 3 << 20),
                _ => self.file(folder, &format!("module_{module}.py"), len),
            }
            self.file(&cache, &format!("module_{module}.cpython-311.pyc"), len);
        }
    }

    /// Adds a directory, unless the tree is large enough.
    fn folder(&mut self, at: &(InodeId, PathBuf), name: &str) -> Option<(InodeId, PathBuf)> {
        self.add(at, name, Content::Directory(BTreeMap::new()), None)
    }

    fn file(&mut self, at: &(InodeId, PathBuf), name: &str, size: u64) {
        if self.left == 0 {
            return;
        }
        let mut chunks = Vec::new();
        let mut rest = size;
        while rest > 0 {
            let len = rest.min(u64::from(CHUNK_SIZE));
            chunks.push(self.chunk(u32::try_from(len).expect("no longer than a chunk")));
            rest -= len;
        }
        self.add(at, name, Content::Regular { size, chunks }, Some(size));
    }

    fn chunk(&mut self, len: u32) -> ChunkId {
        let chunk = EncodedChunk {
            digest: Digester::Sha256.digest(&self.chunk_count.to_le_bytes()),
            len,
            data: vec![0; STORED_LEN],
            is_compressed: true,
        };
        let index = self.blob.push(&chunk).expect("a blob holds millions of chunks");
        self.chunk_count += 1;
        ChunkId {
            blob: BlobIndex(0),
            index,
        }
    }

    fn add(
        &mut self,
        (directory, path): &(InodeId, PathBuf),
        name: &str,
        content: Content,
        size: Option<u64>,
    ) -> Option<(InodeId, PathBuf)> {
        self.left = self.left.checked_sub(1)?;
        let attr = Attr {
            permissions: if size.is_some() { 0o644 } else { 0o755 },
            ..Attr::default()
        };
        let id = self.tree.add(Node { attr, content });
        let names = self
            .tree
            .names_mut(*directory)
            .expect("only directories are passed");
        names.insert(name.as_bytes().to_vec(), id);
        let path = path.join(name);
        self.paths.push((path.clone(), size));
        Some((id, path))
    }
}

/// Makes the same tree as real files under `dir`, without content but with their sizes.
pub fn lay_out(paths: &[(PathBuf, Option<u64>)], dir: &Path) -> Result<()> {
    for (path, size) in paths {
        let full = dir.join(path);
        let made = match size {
            None => fs::create_dir(&full),
            Some(size) => File::create_new(&full).and_then(|file| file.set_len(*size)),
        };
        made.with_context(|| format!("make {}", full.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rafs::Image;
    use rafs::image::check;

    use super::*;

    #[test]
    fn the_image_has_the_asked_size_and_no_faults() {
        for count in [1000, 1017] {
            let sample = make(count).unwrap();
            let image = Image::open(sample.bootstrap.as_slice()).unwrap();
            assert_eq!(check(&sample.bootstrap), Ok(Vec::new()));
            assert_eq!(image.inode_count(), count as u64);
            assert_eq!(make(count).unwrap().bootstrap, sample.bootstrap);
        }
    }

    #[test]
    fn real_files_are_the_same_tree() {
        let dir = tempfile::tempdir().unwrap();
        let sample = make(500).unwrap();
        lay_out(&sample.paths, dir.path()).unwrap();
        for (path, size) in &sample.paths {
            let found = dir.path().join(path).symlink_metadata().unwrap();
            assert_eq!(
                found.is_file().then_some(found.len()),
                *size,
                "{}",
                path.display()
            );
        }
    }
}
