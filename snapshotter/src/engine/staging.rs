//! A snapshot's folder on its way in: made under a passing name, renamed to its number when complete.

use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::content::sync_folder;
use crate::layout::{DEAD_PREFIX, Layout, NEW_PREFIX};
use crate::store::{Kind, SnapshotId};
use crate::{Error, Result};

/// Mode of a snapshot's folder: what is inside keeps the modes of the image, so nobody else may look in.
const SNAPSHOT_MODE: u32 = 0o700;
/// Mode of the content of a new snapshot, as containers see it at `/`.
const CONTENT_MODE: u32 = 0o755;
/// Mode of an overlay's working folder.
const WORK_MODE: u32 = 0o711;

/// Tells passing names apart within this process; the lock file keeps other processes away.
static SERIAL: AtomicU64 = AtomicU64::new(0);

/// A folder on its way in. Dropped before it is placed, it is deleted.
pub(super) struct Staging {
    layout: Layout,
    path: Option<PathBuf>,
}

impl Staging {
    /// Makes the folder. The content gets the given owner, if there is one.
    pub(super) fn create(layout: &Layout, kind: Kind, owner: Option<(u32, u32)>) -> Result<Self> {
        let path = passing_name(layout, NEW_PREFIX);
        create_dir(&path, SNAPSHOT_MODE)?;
        let staging = Self {
            layout: layout.clone(),
            path: Some(path.clone()),
        };
        let content = path.join("fs");
        create_dir(&content, CONTENT_MODE)?;
        if kind == Kind::Active {
            create_dir(&path.join("work"), WORK_MODE)?;
        }
        if let Some((user, group)) = owner {
            chown(&content, Some(user), Some(group)).map_err(Error::io("change owner of", &content))?;
        }
        sync_folder(&path)?;
        Ok(staging)
    }

    /// Renames the folder to its number, for good: a row must not outlive its folder. What is in the way can only be left from a transaction that failed after
    /// this step; it is set aside for the cleanup.
    pub(super) fn place(&mut self, id: SnapshotId) -> Result<()> {
        let Some(path) = self.path.take() else {
            return Ok(());
        };
        let target = self.layout.snapshot(id);
        let mut outcome = fs::rename(&path, &target);
        let in_the_way = |error: &std::io::Error| {
            matches!(
                error.kind(),
                ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty
            )
        };
        if outcome.as_ref().is_err_and(in_the_way) {
            let dead = passing_name(&self.layout, DEAD_PREFIX);
            fs::rename(&target, &dead).map_err(Error::io("set aside", &target))?;
            outcome = fs::rename(&path, &target);
        }
        outcome.map_err(|error| {
            self.path = Some(path);
            Error::io("place", &target)(error)
        })?;
        sync_folder(&self.layout.snapshots())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Some(path) = self.path.take()
            && let Err(error) = fs::remove_dir_all(&path)
        {
            tracing::warn!(path = %path.display(), %error, "cannot delete a half-made folder");
        }
    }
}

/// User and group of a folder.
pub(super) fn owner_of(path: &Path) -> Result<(u32, u32)> {
    let meta = fs::metadata(path).map_err(Error::io("look at", path))?;
    Ok((meta.uid(), meta.gid()))
}

/// A name no other folder has or will get while the process lives.
fn passing_name(layout: &Layout, prefix: &str) -> PathBuf {
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    layout
        .snapshots()
        .join(format!("{prefix}{}-{serial}", std::process::id()))
}

/// Makes a folder with exactly this mode, whatever the umask.
fn create_dir(path: &Path, mode: u32) -> Result<()> {
    DirBuilder::new()
        .mode(mode)
        .create(path)
        .map_err(Error::io("create", path))?;
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(Error::io("change mode of", path))
}
