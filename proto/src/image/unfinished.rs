//! Files and folders that are being written, beside where they will lie.
//!
//! Whoever writes one holds a lock on it. What a killed process leaves behind is known by having none, and is removed by
//! the next that writes there.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile, TempDir};

/// Starts their names. Nobody else's files begin so.
const PREFIX: &str = ".slipway-unfinished-";

/// A folder that is being written. Dropped, it is gone.
#[derive(Debug)]
pub struct UnfinishedDir {
    dir: TempDir,
    /// Holds the lock.
    _lock: File,
}

impl UnfinishedDir {
    /// Creates it in `parent`. Blocking.
    ///
    /// # Errors
    /// When `parent` is not there or cannot be written.
    pub fn create(parent: &Path) -> io::Result<Self> {
        loop {
            let dir = Builder::new()
                .prefix(PREFIX)
                .tempdir_in(parent)
                .map_err(|error| plain(&error))?;
            let lock = File::open(dir.path())?;
            if is_mine(&lock)? {
                return Ok(Self { dir, _lock: lock });
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// The folder where a file of this path is to lie.
pub fn parent_of(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Creates a file in `parent`, with `mode` as far as the process's mask lets it. Blocking.
///
/// # Errors
/// When `parent` is not there or cannot be written.
pub fn create_file(parent: &Path, mode: u32) -> io::Result<NamedTempFile> {
    loop {
        let file = Builder::new()
            .prefix(PREFIX)
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(parent)
            .map_err(|error| plain(&error))?;
        if is_mine(file.as_file())? {
            return Ok(file);
        }
    }
}

/// Without the path, which is of a file that never was.
fn plain(error: &io::Error) -> io::Error {
    error.kind().into()
}

/// Locks what was just created. `false`: before that somebody swept it away.
fn is_mine(created: &File) -> io::Result<bool> {
    if let Err(error) = created.lock() {
        // Then nobody else gets a lock either, and nothing is swept.
        tracing::debug!(%error, "this file system has no locks");
    }
    Ok(created.metadata()?.nlink() > 0)
}

/// Removes what processes that are gone left unfinished in `parent`. Blocking; failures do not matter.
pub fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(PREFIX.as_bytes())
        {
            let path = entry.path();
            match remove_abandoned(&path) {
                Ok(true) => {
                    tracing::info!(path = %path.display(), "removed what an earlier run left unfinished")
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(path = %path.display(), %error, "an unfinished file cannot be removed");
                }
            }
        }
    }
}

fn remove_abandoned(path: &PathBuf) -> io::Result<bool> {
    let file_type = fs::symlink_metadata(path)?.file_type();
    if !file_type.is_file() && !file_type.is_dir() {
        return Ok(false);
    }
    // Held until it is gone: who has just created it waits for the lock, and then sees that it is gone.
    let lock = File::open(path)?;
    if lock.try_lock().is_err() {
        return Ok(false);
    }
    match file_type.is_dir() {
        true => fs::remove_dir_all(path)?,
        false => fs::remove_file(path)?,
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_writes_any_more_is_swept() {
        let parent = TempDir::new().unwrap();
        let file = create_file(parent.path(), 0o644).unwrap();
        let dir = UnfinishedDir::create(parent.path()).unwrap();
        let abandoned_file = parent.path().join(".slipway-unfinished-1");
        let abandoned_dir = parent.path().join(".slipway-unfinished-2");
        let foreign = parent.path().join("slipway-unfinished-3");
        let link = parent.path().join(".slipway-unfinished-4");
        fs::write(&abandoned_file, "x").unwrap();
        fs::create_dir_all(abandoned_dir.join("blobs/sha256")).unwrap();
        fs::write(&foreign, "x").unwrap();
        std::os::unix::fs::symlink(&foreign, &link).unwrap();
        sweep(parent.path());
        assert!(file.path().exists() && dir.path().exists() && foreign.exists() && link.is_symlink());
        assert!(!abandoned_file.exists() && !abandoned_dir.exists());
    }

    #[test]
    fn what_is_finished_or_given_up_leaves_nothing() {
        let parent = TempDir::new().unwrap();
        let kept = parent.path().join("kept");
        create_file(parent.path(), 0o600).unwrap().persist(&kept).unwrap();
        drop(create_file(parent.path(), 0o600).unwrap());
        drop(UnfinishedDir::create(parent.path()).unwrap());
        sweep(parent.path());
        let names: Vec<_> = fs::read_dir(parent.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert_eq!(names, [kept]);
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let parent = TempDir::new().unwrap();
        let missing = parent.path().join("missing");
        assert!(create_file(&missing, 0o600).is_err() && UnfinishedDir::create(&missing).is_err());
        sweep(&missing);
    }
}
