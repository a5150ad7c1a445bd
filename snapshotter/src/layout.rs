//! Where things lie on a node.

use std::path::{Path, PathBuf};

use proto::lazy::BOOTSTRAP_PATH;

use crate::store::SnapshotId;

/// Prefix of folders that are being made; they are renamed to their number when complete.
pub(crate) const NEW_PREFIX: &str = "new-";

/// Prefix of folders nobody needs any more.
pub(crate) const DEAD_PREFIX: &str = "dead-";

/// The folders of one daemon: what lasts under the root, what a reboot may lose under the run folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
    run_dir: PathBuf,
}

impl Layout {
    /// Describes a layout; nothing is created.
    pub fn new(root: impl Into<PathBuf>, run_dir: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            run_dir: run_dir.into(),
        }
    }

    /// What lasts.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What a reboot may lose.
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// Locked by the one daemon of this root.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// The database.
    pub fn store(&self) -> PathBuf {
        self.root.join("store.redb")
    }

    /// The chunk cache.
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// All snapshots.
    pub fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    /// One snapshot.
    pub fn snapshot(&self, id: SnapshotId) -> PathBuf {
        self.snapshots().join(id.0.to_string())
    }

    /// Content of one snapshot, the upper folder of its overlay.
    pub fn content(&self, id: SnapshotId) -> PathBuf {
        self.snapshot(id).join("fs")
    }

    /// Working folder of a snapshot's overlay.
    pub fn work(&self, id: SnapshotId) -> PathBuf {
        self.snapshot(id).join("work")
    }

    /// Bootstrap of the image whose bootstrap layer this is.
    pub fn bootstrap(&self, id: SnapshotId) -> PathBuf {
        self.content(id).join(BOOTSTRAP_PATH)
    }

    /// Socket containerd talks to, unless the configuration names another.
    pub fn address(&self) -> PathBuf {
        self.run_dir.join("slipwayd.sock")
    }

    /// Socket of the operator commands.
    pub fn control(&self) -> PathBuf {
        self.run_dir.join("control.sock")
    }

    /// Socket of the keeper.
    pub fn keeper(&self) -> PathBuf {
        self.run_dir.join("keeper.sock")
    }

    /// What the next daemon must know of the connection that is kept.
    pub fn record(&self) -> PathBuf {
        self.run_dir.join("connection.json")
    }

    /// Mount point of the FUSE session.
    pub fn fuse(&self) -> PathBuf {
        self.run_dir.join("fs")
    }

    /// Folder of the kernel's EROFS mounts.
    pub fn erofs(&self) -> PathBuf {
        self.run_dir.join("mnt")
    }
}
