//! Writing `oci-archive:` files: a layout is spooled beside the archive, and packed at the end.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::image::Error;
use crate::image::layout::folder::persist;
use crate::image::layout::writer::Writer;
use crate::image::layout::{BLOBS, INDEX, MARKER};
use crate::image::unfinished::{self, UnfinishedDir};

/// Write buffer: large blobs are copied through it.
const BUFFER_LEN: usize = 1 << 20;
/// Archives are for every user to read, like other downloads.
const FILE_MODE: u32 = 0o644;

/// An archive being written. Dropped unfinished, its spool is gone and an older archive is as it was.
pub(crate) struct ArchiveWriter {
    path: PathBuf,
    spool: UnfinishedDir,
    layout: Writer,
}

impl ArchiveWriter {
    /// Starts the spool, in the folder of `path` since that disk must hold the result anyway. Blocking.
    pub(crate) fn create(path: &Path) -> Result<Self, Error> {
        match std::fs::metadata(path) {
            Ok(metadata) if !metadata.is_file() => {
                return Err(Error::invalid(path.display().to_string(), "not a regular file"));
            }
            _ => {}
        }
        let folder = unfinished::parent_of(path);
        unfinished::sweep(folder);
        let spool = UnfinishedDir::create(folder).map_err(|source| Error::File {
            path: folder.to_owned(),
            source,
        })?;
        let layout = Writer::open(spool.path())?;
        Ok(Self {
            path: path.to_owned(),
            spool,
            layout,
        })
    }

    pub(crate) fn layout(&self) -> &Writer {
        &self.layout
    }

    /// Packs the spool and renames the archive into place. Blocking.
    pub(crate) fn finish(self) -> Result<(), Error> {
        let folder = unfinished::parent_of(&self.path);
        let mut file = unfinished::create_file(folder, FILE_MODE).map_err(Error::file(folder))?;
        let mut tar = tar::Builder::new(BufWriter::with_capacity(BUFFER_LEN, file.as_file_mut()));
        for name in self.names()? {
            append(&mut tar, self.spool.path(), &name)?;
        }
        let finished = tar.into_inner().and_then(|mut buffer| buffer.flush());
        finished.map_err(Error::file(&self.path))?;
        persist(file, &self.path)
    }

    /// Names to pack: first what a reader needs first, then blobs in order, so that equal images make equal files.
    fn names(&self) -> Result<Vec<String>, Error> {
        let mut names = vec![MARKER.to_owned(), INDEX.to_owned()];
        let root = self.layout.folder().join(BLOBS);
        for algorithm in list(&root)? {
            let blobs = list(&root.join(&algorithm))?;
            names.extend(
                blobs
                    .into_iter()
                    .map(|blob| format!("{BLOBS}/{algorithm}/{blob}")),
            );
        }
        Ok(names)
    }
}

/// The names in a folder, sorted.
fn list(folder: &Path) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::file(folder))? {
        let entry = entry.map_err(Error::file(folder))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn append(tar: &mut tar::Builder<impl Write>, root: &Path, name: &str) -> Result<(), Error> {
    let path = root.join(name);
    let mut file = File::open(&path).map_err(Error::file(&path))?;
    let mut header = tar::Header::new_ustar();
    header.set_size(file.metadata().map_err(Error::file(&path))?.len());
    header.set_mode(FILE_MODE);
    header.set_mtime(0);
    tar.append_data(&mut header, name, &mut file)
        .map_err(Error::file(&path))
}
