//! The ways to the tree, and how each is put into a known state before a sample.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustix::fs::{Advice, fadvise};
use rustix::mount::{MountFlags, mount};

use super::sample::{self, Sample};
use crate::containerd::SNAPSHOTTER;
use crate::node::{Node, Settings};
use crate::process;
use crate::scene::Scene;

/// One part in so many may be elsewhere than a state says: pages that somebody holds for a moment, or that the kernel
/// reclaims before their time.
const STRAY_SHARE: u64 = 20;
/// Unit of `st_blocks`.
const BLOCK_LEN: u64 = 512;

/// What is in which cache before a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// In the page cache of the file system that is read: nothing is done, the read before left it there.
    Warm,
    /// In RAM, but one step away, as a chunk that has just arrived: see [`Side::put_into`].
    Tepid,
    /// On the node's disk and nowhere else, as a chunk that arrived a while ago.
    Stored,
    /// Nowhere: each sample reads files that were not read before.
    Cold,
}

/// One way to the tree.
pub struct Side {
    name: &'static str,
    root: PathBuf,
    /// Files whose pages are what the root shows, or what it is made of.
    source: PathBuf,
    /// Those of them that the large files are in.
    large_source: PathBuf,
    /// Keeps the daemon and its mounts.
    node: Option<Node>,
}

impl Side {
    /// The tier, as it stands in the table.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Where the tree is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Puts the caches into a state, and looks whether it is so: a daemon that reads its files past the page cache uses
    /// pages that are there, but leaves none.
    ///
    /// * Tepid: the large files leave the page cache of the root (`POSIX_FADV_DONTNEED`, which overlayfs passes on), then
    ///   the files with the daemon's chunks are read into RAM. Files on ext4 are their own source, so for them tepid is
    ///   what was read already.
    /// * Stored: the source is dropped too.
    /// * Cold: as stored; the daemon's files have nothing of what is read.
    pub fn put_into(&self, state: State) -> Result<()> {
        if state == State::Warm {
            return Ok(());
        }
        let clean = Command::new("sync").status().context("run sync")?;
        ensure!(clean.success(), "sync failed");
        for number in 0..sample::LARGE_COUNT {
            drop_pages(&self.root.join(sample::large(number)))?;
        }
        match state {
            State::Tepid => each_file(&self.large_source, &mut |path| {
                // A page that the daemon read ahead past the page cache, and did not come to, goes with its first
                // reader: none may be left before all are read in.
                drop_pages(path)?;
                let mut file = File::open(path)?;
                std::io::copy(&mut file, &mut std::io::sink())?;
                Ok(())
            })?,
            _ => each_file(&self.source, &mut drop_pages)?,
        }
        self.check(state)
    }

    /// Fails where caches are not as a state says, but for one part in [`STRAY_SHARE`].
    fn check(&self, state: State) -> Result<()> {
        let mut front = Memory::default();
        for number in 0..sample::LARGE_COUNT {
            front.add(&self.root.join(sample::large(number)))?;
        }
        // Files on ext4 are their own source.
        let is_own_source = self.node.is_none();
        ensure!(
            (is_own_source && state == State::Tepid) || front.is_out(),
            "what is read is in RAM already: {front:?}"
        );
        self.check_source(state)
    }

    /// Fails where the source is not as a state says.
    pub fn check_source(&self, state: State) -> Result<()> {
        let mut source = Memory::default();
        each_file(&self.large_source, &mut |path| source.add(path))?;
        match state {
            State::Tepid => ensure!(source.is_in(), "the source has left RAM: {source:?}"),
            State::Stored if self.node.is_some() => {
                ensure!(source.is_out(), "the source is in RAM: {source:?}")
            }
            State::Stored | State::Warm | State::Cold => {}
        }
        Ok(())
    }
}

/// How much of files is in the page cache.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    resident_len: u64,
    stored_len: u64,
}

impl Memory {
    fn add(&mut self, path: &Path) -> Result<()> {
        let fincore = ["--bytes", "--noheadings", "--raw", "--output", "RES"];
        let text = process::text(Command::new("fincore").args(fincore).arg(path))?;
        self.resident_len += text.trim().parse::<u64>().context("fincore prints a number")?;
        let meta = path.metadata().context("look at a file")?;
        // Holes of a sparse file are not counted: nobody reads there.
        self.stored_len += (meta.blocks() * BLOCK_LEN).min(meta.len());
        Ok(())
    }

    fn is_out(self) -> bool {
        self.resident_len <= self.stored_len / STRAY_SHARE
    }

    fn is_in(self) -> bool {
        self.resident_len >= self.stored_len - self.stored_len / STRAY_SHARE
    }
}

/// Lets the kernel forget the pages of a file.
fn drop_pages(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    fadvise(&file, 0, None, Advice::DontNeed).with_context(|| format!("drop the pages of {}", path.display()))
}

fn each_file(dir: &Path, work: &mut impl FnMut(&Path) -> Result<()>) -> Result<()> {
    for entry in dir
        .read_dir()
        .with_context(|| format!("list {}", dir.display()))?
    {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            each_file(&path, work)?;
        } else {
            work(&path).with_context(|| format!("read {}", path.display()))?;
        }
    }
    Ok(())
}

/// Starts all sides: the baseline, ext4 itself, and one daemon for each tier.
pub fn start(scene: &Arc<Scene>, sample: &Sample) -> Result<Vec<Side>> {
    let plain = |name, root: PathBuf| Side {
        name,
        root,
        source: sample.native.clone(),
        large_source: sample.native.join("large"),
        node: None,
    };
    let merged = overlay(scene, &sample.native)?;
    let mut sides = vec![plain("overlayfs", merged), plain("ext4", sample.native.clone())];
    for tier in ["erofs", "fuse"] {
        sides.push(served(tier, sample)?);
    }
    Ok(sides)
}

fn overlay(scene: &Scene, lower: &Path) -> Result<PathBuf> {
    let [upper, work, merged] = ["upper", "work", "merged"].map(|name| scene.folder(name));
    let (upper, work, merged) = (upper?, work?, merged?);
    let options = format!(
        "index=off,lowerdir={},upperdir={},workdir={}",
        lower.display(),
        upper.display(),
        work.display()
    );
    let options = std::ffi::CString::new(options).context("paths without NUL")?;
    mount(
        "overlay",
        &merged,
        "overlay",
        MountFlags::empty(),
        Some(options.as_c_str()),
    )
    .context("mount overlayfs")?;
    Ok(merged)
}

/// A node of its own whose daemon serves the image with one tier, and a container's snapshot of the image.
fn served(tier: &'static str, sample: &Sample) -> Result<Side> {
    let scene = Arc::new(Scene::create()?);
    let settings = Settings {
        data_path: tier,
        log_level: "warn",
        ..Settings::default()
    };
    let node = Node::start_with(scene, &settings)?;
    let reference = node.offer_converted(&sample.layout, sample::TAG, "datapath:rafs")?;
    node.pull_lazily(&reference)?;
    let root = container(&node)?;
    Ok(Side {
        name: tier,
        root,
        source: node.slipwayd.root().join("cache"),
        large_source: node.slipwayd.root().join("cache"),
        node: Some(node),
    })
}

/// Mounts a container's snapshot of the only image.
fn container(node: &Node) -> Result<PathBuf> {
    let point = node.scene.folder("container")?;
    node.containerd
        .mount_container(SNAPSHOTTER, "container", &point)?;
    Ok(point)
}
