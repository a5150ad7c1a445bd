//! The folder of a layout being written: made with the first file, and taken back if no image comes of it.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::NamedTempFile;

use super::{BLOBS, INDEX, MARKER, MARKER_CONTENT};
use crate::image::{Error, open_regular, unfinished};

/// Layout files are for every user to read, as other tools write them.
const FILE_MODE: u32 = 0o644;

/// A layout's folder, whether it is there yet or not.
pub(super) struct Folder {
    path: PathBuf,
    made: Mutex<Made>,
}

/// What was made here.
#[derive(Default)]
struct Made {
    /// Whether the folder has all that the layout needs.
    is_ready: bool,
    /// Whether the layout was not there before and has no image yet, so that all below may be taken back.
    is_tentative: bool,
    /// Folders, outermost first.
    folders: Vec<PathBuf>,
    blobs: Vec<PathBuf>,
}

impl Folder {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            made: Mutex::default(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the folder and its marker, unless they are there, and removes what earlier runs left unfinished.
    fn prepare(&self) -> Result<(), Error> {
        let mut made = self.made();
        if made.is_ready {
            return Ok(());
        }
        make_folders(&self.path.join(BLOBS).join("sha256"), &mut made.folders)?;
        unfinished::sweep(&self.path);
        let marker = self.path.join(MARKER);
        if !marker.try_exists().map_err(Error::file(&marker))? {
            let mut file = self.temporary()?;
            file.write_all(MARKER_CONTENT).map_err(Error::file(file.path()))?;
            file.as_file().sync_all().map_err(Error::file(&marker))?;
            match file.persist_noclobber(&marker) {
                Ok(_) => made.is_tentative = true,
                // Somebody else makes the same layout; whoever was first takes care of it.
                Err(error) if error.error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::file(&marker)(error.error)),
            }
        }
        made.is_ready = true;
        Ok(())
    }

    /// Starts a file.
    pub(super) fn unfinished(&self) -> Result<NamedTempFile, Error> {
        self.prepare()?;
        self.temporary()
    }

    fn temporary(&self) -> Result<NamedTempFile, Error> {
        unfinished::create_file(&self.path, FILE_MODE).map_err(Error::file(&self.path))
    }

    /// Gives a finished blob its name.
    pub(super) fn keep(&self, file: NamedTempFile, path: &Path) -> Result<(), Error> {
        persist(file, path)?;
        self.made().blobs.push(path.to_owned());
        Ok(())
    }

    /// Writes a whole file of the layout.
    pub(super) fn put_file(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        let mut file = self.unfinished()?;
        file.write_all(content).map_err(Error::file(file.path()))?;
        persist(file, &self.path.join(name))
    }

    /// Says that an image is listed: what was made stays.
    pub(super) fn finish(&self) {
        self.made().is_tentative = false;
    }

    /// Takes a layout back that has no image. Whoever adds one to it at the same time holds the marker locked until it
    /// is listed, or misses the marker and fails.
    fn take_back(&self, made: &Made) -> Result<(), Error> {
        let marker = self.path.join(MARKER);
        let lock = match open_regular(&marker) {
            // The spool of an archive goes as a whole.
            Err(Error::NotFound { .. }) => return Ok(()),
            opened => opened?,
        };
        lock.lock().map_err(Error::file(&marker))?;
        let index = self.path.join(INDEX);
        if index.try_exists().map_err(Error::file(&index))? {
            return Ok(());
        }
        fs::remove_file(&marker).map_err(Error::file(&marker))?;
        for blob in &made.blobs {
            fs::remove_file(blob).map_err(Error::file(blob))?;
        }
        for folder in made.folders.iter().rev() {
            fs::remove_dir(folder).map_err(Error::file(folder))?;
        }
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let made = std::mem::take(&mut *self.made());
        if !made.is_tentative {
            return;
        }
        if let Err(error) = self.take_back(&made) {
            tracing::warn!(folder = %self.path.display(), %error, "an unfinished layout is left behind");
        }
    }
}

/// Makes a folder and those above it; notes those that were not there.
fn make_folders(path: &Path, made: &mut Vec<PathBuf>) -> Result<(), Error> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_folders(parent, made)?;
    }
    match fs::create_dir(path) {
        Ok(()) => made.push(path.to_owned()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(source) => {
            let path = path.to_owned();
            return Err(Error::File { path, source });
        }
    }
    Ok(())
}

/// Makes a finished temporary file durable under its final name.
pub(crate) fn persist(file: NamedTempFile, path: &Path) -> Result<(), Error> {
    file.as_file().sync_all().map_err(Error::file(path))?;
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::file(parent))?;
    }
    file.persist(path)
        .map_err(|error| Error::file(path)(error.error))?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => {
            let folder = File::open(parent).map_err(Error::file(parent))?;
            folder.sync_all().map_err(Error::file(parent))
        }
        _ => Ok(()),
    }
}
