//! A tree for readers that go on while daemons die: one large file, many small ones, and the same as plain files.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::edge::noise;
use super::layer::{Entry, Kind};
use super::layout::{Compression, Layout};
use crate::containerd::SNAPSHOTTER;
use crate::node::Node;
use crate::reader::LARGE;

/// Name of the image in its layout folder.
pub const TAG: &str = "steady:1";
/// Folders of small files.
const FOLDER_COUNT: usize = 20;
/// Small files in a folder.
const FILE_COUNT: usize = 15;
/// Bytes of a small file go up to this: some have a page, some a few.
const FILE_LEN_MAX: usize = 40_000;

/// The image as a container of a node sees it.
pub struct Shown {
    /// The name it was pulled by.
    pub reference: String,
    /// The container's root, mounted. The container's name is `container`.
    pub root: PathBuf,
    /// The same tree as plain files.
    pub truth: PathBuf,
}

/// Makes the image, converts it, pulls it lazily on a node and mounts the root of a container.
pub fn show(node: &Node, large_len: usize, seed: u64) -> Result<Shown> {
    let [layout, truth] = ["steady", "truth"].map(|name| node.scene.dir().join(name));
    make(&layout, &truth, large_len, seed)?;
    let reference = node.offer_converted(&layout, TAG, "steady:rafs")?;
    node.pull_lazily(&reference)?;
    let root = node.scene.folder("container")?;
    node.containerd.mount_container(SNAPSHOTTER, "container", &root)?;
    Ok(Shown {
        reference,
        root,
        truth,
    })
}

/// Writes the image into `layout` and the tree into `truth`. `seed` makes trees with other bytes.
pub fn make(layout: &Path, truth: &Path, large_len: usize, seed: u64) -> Result<()> {
    fs::create_dir_all(truth).with_context(|| format!("create {}", truth.display()))?;
    let mut layout = Layout::create(layout)?;
    let layer = layout.layer(Compression::None, |tar| {
        let mut put = |path: &str, content: Option<&[u8]>| {
            let full = truth.join(path);
            let made = match content {
                None => fs::create_dir(&full),
                Some(content) => File::create_new(&full).and_then(|mut file| file.write_all(content)),
            };
            made.with_context(|| format!("make {}", full.display()))?;
            tar.append(&Entry::new(path, content.map_or(Kind::Directory, Kind::File)))
        };
        put(LARGE, Some(&noise(large_len, seed)))?;
        for folder in 0..FOLDER_COUNT {
            put(&format!("{folder}"), None)?;
            for file in 0..FILE_COUNT {
                let number = folder * FILE_COUNT + file;
                let content = noise(1 + number * 7919 % FILE_LEN_MAX, seed + number as u64);
                put(&format!("{folder}/{file}"), Some(&content))?;
            }
        }
        Ok(())
    })?;
    layout.image(TAG, &[layer], &["/bin/true"])
}
