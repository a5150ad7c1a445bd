//! The files of a blob.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::cache::state::{self, Entry};
use crate::cache::uncached::UncachedFile;
use crate::cache::{Shape, make_dir};

pub(super) struct Files {
    pub(super) data: UncachedFile,
    pub(super) data_path: PathBuf,
    pub(super) state: File,
    /// The blob's chunk infos, for blobs that need them. Not kept open: they are read once.
    pub(super) meta: PathBuf,
}

impl Files {
    /// Opens the folder of a blob, making or remaking what is missing or not readable as its state. Gives what an
    /// earlier process recorded.
    pub(super) fn open(dir: &Path, shape: &Shape) -> io::Result<(Self, Vec<(u32, Entry)>)> {
        make_dir(dir)?;
        let options = {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).mode(0o600);
            // A symlink here is not ours, and what it names would be overwritten.
            options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
            options
        };
        let data_path = dir.join("data");
        let mut data = options.open(&data_path)?;
        let state = options.open(dir.join("state"))?;
        let recorded = match data.metadata()?.len() == shape.uncompressed_size {
            true => state::load(&state, shape)?,
            false => None,
        };
        let entries = if let Some(entries) = recorded {
            entries
        } else {
            // The state goes first: data without state is nothing, state without data would be a promise.
            state.set_len(0)?;
            // A new file, never the old one cut: a mount of the kernel's may still read that.
            std::fs::remove_file(&data_path)?;
            data = options.open(&data_path)?;
            data.set_len(shape.uncompressed_size)?;
            state::create(&state, shape)?;
            Vec::new()
        };
        let files = Files {
            data: UncachedFile::new(data),
            data_path,
            state,
            meta: dir.join("meta"),
        };
        Ok((files, entries))
    }

    /// When the data was last written, in seconds.
    pub(super) fn modified(&self) -> u32 {
        let modified = self.data.file().metadata().map_or(0, |metadata| metadata.mtime());
        u32::try_from(modified).unwrap_or(0)
    }
}
