//! Unpacking to tar: ustar, with PAX records where ustar cannot say it. The same bytes for the same image.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use proto::image::unfinished;
use rafs::tree::FileType;
use tempfile::NamedTempFile;

use super::{Item, Lost, Sink};
use crate::error::Error;
use crate::restore::{LayerWriter, Opening};
use crate::tarball::pax::write_record;

/// What fits in ustar's fields: names, 7 octal digits for ids, 11 for sizes and times.
const NAME_LEN_MAX: usize = 100;
const ID_MAX: u32 = 0o777_7777;
const LARGE_MAX: u64 = 0o777_7777_7777;
const BLOCK_LEN: u64 = 512;
/// Large enough that a chunk is one or two writes.
const BUFFER_LEN: usize = 1 << 20;

/// Writes an archive.
pub(super) struct ArchiveSink {
    output: BufWriter<Output>,
    path: PathBuf,
    /// Content bytes of the current file so far.
    written: u64,
    lost: Lost,
}

impl ArchiveSink {
    /// Creates the file. It gets its name when it is complete; a pipe or device is written to as it is.
    pub(super) fn create(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Io {
            doing: "creating",
            path: path.to_owned(),
            source,
        };
        if path.exists() && !path.is_file() {
            let file = File::options().write(true).open(path).map_err(failed)?;
            return Ok(Self::new(Output::Stream(Box::new(file)), path));
        }
        let parent = unfinished::parent_of(path);
        unfinished::sweep(parent);
        // Readable for all, as far as the user's mask says.
        let file = unfinished::create_file(parent, 0o666).map_err(failed)?;
        Ok(Self::new(Output::New(file), path))
    }

    /// Writes to standard output.
    pub(super) fn stdout() -> Self {
        Self::new(
            Output::Stream(Box::new(io::stdout())),
            Path::new("standard output"),
        )
    }

    /// Writes a layer of an image.
    pub(super) fn layer(layer: Opening) -> Result<Self, Error> {
        let path = Path::new("the layer");
        let layer = layer.open().map_err(|source| Error::Io {
            doing: "starting",
            path: path.to_owned(),
            source,
        })?;
        Ok(Self::new(Output::Layer(Box::new(layer)), path))
    }

    fn new(output: Output, path: &Path) -> Self {
        ArchiveSink {
            output: BufWriter::with_capacity(BUFFER_LEN, output),
            path: path.to_owned(),
            written: 0,
            lost: Lost::default(),
        }
    }

    fn emit(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.output.write_all(bytes).map_err(|source| Error::Io {
            doing: "writing",
            path: self.path.clone(),
            source,
        })
    }

    fn pad(&mut self, len: u64) -> Result<(), Error> {
        let padding = (BLOCK_LEN - len % BLOCK_LEN) % BLOCK_LEN;
        self.emit(&[0; BLOCK_LEN as usize][..usize::try_from(padding).expect("less than a block")])
    }
}

impl Sink for ArchiveSink {
    fn put(&mut self, item: &Item<'_>) -> Result<(), Error> {
        if item.step.inode.file_type == FileType::Socket {
            self.lost.sockets += 1;
            return Ok(());
        }
        let member = Member::new(item);
        let records = member.records(item);
        if !records.is_empty() {
            self.emit(header(b"pax", tar::EntryType::XHeader, records.len() as u64).as_bytes())?;
            self.emit(&records)?;
            self.pad(records.len() as u64)?;
        }
        self.written = 0;
        self.emit(member.header(item).as_bytes())
    }

    fn write(&mut self, content: &[u8]) -> Result<(), Error> {
        self.written += content.len() as u64;
        self.emit(content)
    }

    fn end_file(&mut self) -> Result<(), Error> {
        self.pad(self.written)
    }

    fn finish(mut self: Box<Self>) -> Result<Lost, Error> {
        self.emit(&[0; 2 * BLOCK_LEN as usize])?;
        let failed = |source| Error::Io {
            doing: "writing",
            path: self.path.clone(),
            source,
        };
        let output = self
            .output
            .into_inner()
            .map_err(|error| failed(error.into_error()))?;
        match output {
            Output::New(file) => drop(file.persist(&self.path).map_err(|error| failed(error.error))?),
            Output::Stream(mut stream) => stream.flush().map_err(failed)?,
            Output::Layer(layer) => layer.finish().map_err(failed)?,
        }
        Ok(self.lost)
    }
}

/// Where the bytes go.
enum Output {
    /// A file that has no name yet.
    New(NamedTempFile),
    /// Anything else.
    Stream(Box<dyn Write>),
    /// A layer of an image.
    Layer(Box<LayerWriter>),
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Output::New(file) => file.as_file_mut().write(bytes),
            Output::Stream(stream) => stream.write(bytes),
            Output::Layer(layer) => layer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Output::New(file) => file.as_file_mut().flush(),
            Output::Stream(stream) => stream.flush(),
            Output::Layer(layer) => layer.flush(),
        }
    }
}

/// A member's names and size, as they will be written.
struct Member<'a> {
    entry_type: tar::EntryType,
    path: Vec<u8>,
    link: &'a [u8],
    size: u64,
}

impl<'a> Member<'a> {
    fn new(item: &Item<'a>) -> Self {
        let inode = &item.step.inode;
        let entry_type = match (item.link_to, inode.file_type) {
            (Some(_), _) => tar::EntryType::Link,
            (None, FileType::Directory) => tar::EntryType::Directory,
            (None, FileType::Symlink) => tar::EntryType::Symlink,
            (None, FileType::CharDevice) => tar::EntryType::Char,
            (None, FileType::BlockDevice) => tar::EntryType::Block,
            (None, FileType::Fifo) => tar::EntryType::Fifo,
            (None, FileType::Regular | FileType::Socket) => tar::EntryType::Regular,
        };
        let mut path = match item.step.path.is_empty() {
            true => b".".to_vec(),
            false => item.step.path.clone(),
        };
        if entry_type == tar::EntryType::Directory {
            path.push(b'/');
        }
        let size = match entry_type {
            tar::EntryType::Regular => inode.size,
            _ => 0,
        };
        Member {
            entry_type,
            path,
            link: item.link_to.unwrap_or(item.target),
            size,
        }
    }

    /// PAX records for what the header cannot hold.
    fn records(&self, item: &Item<'_>) -> Vec<u8> {
        let inode = &item.step.inode;
        let mut records = Vec::new();
        let mut add = |key: &[u8], value: &[u8]| write_record(&mut records, key, value);
        for (name, value) in item.xattrs.iter().filter(|_| item.link_to.is_none()) {
            add(&[b"SCHILY.xattr.", &name[..]].concat(), value);
        }
        if inode.gid > ID_MAX {
            add(b"gid", inode.gid.to_string().as_bytes());
        }
        if self.link.len() > NAME_LEN_MAX {
            add(b"linkpath", self.link);
        }
        if header_mtime(item).is_none() {
            add(b"mtime", decimal_time(inode.mtime).as_bytes());
        }
        if self.path.len() > NAME_LEN_MAX {
            add(b"path", &self.path);
        }
        if self.size > LARGE_MAX {
            add(b"size", self.size.to_string().as_bytes());
        }
        if inode.uid > ID_MAX {
            add(b"uid", inode.uid.to_string().as_bytes());
        }
        records
    }

    fn header(&self, item: &Item<'_>) -> tar::Header {
        let inode = &item.step.inode;
        let mut header = header(&self.path, self.entry_type, self.size.min(LARGE_MAX));
        let link = &self.link[..self.link.len().min(NAME_LEN_MAX)];
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        header.set_mode(u32::from(inode.permissions));
        header.set_uid(u64::from(inode.uid.min(ID_MAX)));
        header.set_gid(u64::from(inode.gid.min(ID_MAX)));
        header.set_mtime(header_mtime(item).unwrap_or(0));
        if let (true, Some(ustar)) = (item.link_to.is_none(), header.as_ustar_mut()) {
            let (major, minor) = device(inode.rdev);
            ustar.set_device_major(major);
            ustar.set_device_minor(minor);
        }
        header.set_cksum();
        header
    }
}

/// A ustar header with a name cut to what fits.
fn header(path: &[u8], entry_type: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    let name = &path[..path.len().min(NAME_LEN_MAX)];
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(entry_type);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    header
}

/// The time, if the header can say it exactly.
fn header_mtime(item: &Item<'_>) -> Option<u64> {
    let mtime = item.step.inode.mtime;
    u64::try_from(mtime.secs)
        .ok()
        .filter(|secs| mtime.nanos == 0 && *secs <= LARGE_MAX)
}

/// `[-]SECONDS[.NANOSECONDS]`. Below zero the fraction is given back to the second it was borrowed from.
fn decimal_time(time: rafs::Timestamp) -> String {
    let (sign, secs, nanos) = match (time.secs < 0, time.nanos) {
        (false, nanos) => ("", time.secs.unsigned_abs(), nanos),
        (true, 0) => ("-", time.secs.unsigned_abs(), 0),
        (true, nanos) => ("-", time.secs.unsigned_abs() - 1, 1_000_000_000 - nanos),
    };
    match nanos {
        0 => format!("{sign}{secs}"),
        nanos => format!("{sign}{secs}.{nanos:09}"),
    }
}

/// Major and minor of Linux's 32-bit encoding.
pub(crate) fn device(rdev: u32) -> (u32, u32) {
    (rdev >> 8 & 0xfff, rdev & 0xff | rdev >> 12 & 0xf_ff00)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_pax_reads_them() {
        for (secs, nanos, text) in [
            (0, 0, "0"),
            (1, 5, "1.000000005"),
            (-1, 0, "-1"),
            (-2, 750_000_000, "-1.250000000"),
            (-1, 500_000_000, "-0.500000000"),
        ] {
            assert_eq!(decimal_time(rafs::Timestamp { secs, nanos }), text);
        }
    }

    #[test]
    fn device_numbers_split() {
        assert_eq!(device(0x0103), (1, 3));
        assert_eq!(device(0x123a_bc45), (0xabc, 0x0001_2345));
    }
}
