//! The ways to the tree, and how each is put into a known state before a sample.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustix::fs::{Advice, fadvise};
use rustix::mount::{MountFlags, mount};

use super::sample::{self, Sample};
use crate::containerd::SNAPSHOTTER;
use crate::node::{Node, Settings};
use crate::scene::Scene;

/// What is in which cache before a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// In the page cache of the file system that is read: nothing is done, the read before left it there.
    Warm,
    /// In RAM, but one step away: see [`Side::put_into`].
    Tepid,
    /// Nowhere: each sample reads files that were not read before.
    Cold,
}

/// One way to the tree.
pub struct Side {
    name: &'static str,
    root: PathBuf,
    /// Files whose pages are what the root shows, or what it is made of.
    source: PathBuf,
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

    /// Puts the caches into a state.
    ///
    /// * Tepid: everything behind the root leaves the page cache file by file (`POSIX_FADV_DONTNEED`, which overlayfs
    ///   passes on), then the files with the daemon's chunks are read into RAM. Files on ext4 are their own source, so
    ///   for them tepid is what was read already.
    /// * Cold: as tepid, but the source is dropped too where it is a file system and not a registry.
    pub fn put_into(&self, state: State) -> Result<()> {
        if state == State::Warm {
            return Ok(());
        }
        let clean = Command::new("sync").status().context("run sync")?;
        ensure!(clean.success(), "sync failed");
        for number in 0..sample::LARGE_COUNT {
            forget(&self.root.join(sample::large(number)))?;
        }
        if state == State::Tepid {
            return each_file(&self.source, &mut |path| {
                let mut file = File::open(path)?;
                std::io::copy(&mut file, &mut std::io::sink()).map(drop)
            });
        }
        if self.node.is_none() {
            return each_file(&self.source, &mut |path| drop_pages(&File::open(path)?));
        }
        Ok(())
    }
}

fn forget(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    drop_pages(&file).with_context(|| format!("drop the pages of {}", path.display()))
}

fn drop_pages(file: &File) -> std::io::Result<()> {
    Ok(fadvise(file, 0, None, Advice::DontNeed)?)
}

fn each_file(dir: &Path, work: &mut impl FnMut(&Path) -> std::io::Result<()>) -> Result<()> {
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
