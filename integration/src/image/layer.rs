//! One layer's tar, entry by entry, with everything a tar can say: any bytes in names, negative and fractional times,
//! 32-bit owners, extended attributes, devices, sparse files.

use std::io::{Read, Write};

use anyhow::{Context, Result, ensure};

/// Longest name that fits the header itself.
const HEADER_NAME_MAX: usize = 100;
/// Largest number that fits the header's octal owner fields.
const HEADER_OWNER_MAX: u32 = 0o7_777_777;
/// Pieces of a sparse file that fit the header itself.
const HEADER_SPARSE_MAX: usize = 4;

/// What an entry is.
#[derive(Clone, Copy, Debug)]
pub enum Kind<'a> {
    /// Directory.
    Directory,
    /// Regular file with this content.
    File(&'a [u8]),
    /// Symbolic link with this target.
    Symlink(&'a [u8]),
    /// Hard link to this path.
    HardLink(&'a [u8]),
    /// Character device, major and minor number.
    CharDevice(u32, u32),
    /// Block device, major and minor number.
    BlockDevice(u32, u32),
    /// Named pipe.
    Fifo,
}

/// Extended attributes: full names and values.
pub type Xattrs<'a> = &'a [(&'a str, &'a [u8])];

/// An entry. [`Entry::new`] fills in what is unremarkable.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Path without leading slash.
    pub path: &'a [u8],
    /// What it is.
    pub kind: Kind<'a>,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970 (negative before) and nanoseconds forward from there.
    pub mtime: (i64, u32),
    /// Extended attributes.
    pub xattrs: Xattrs<'a>,
}

impl<'a> Entry<'a> {
    /// An entry of root's with ordinary permissions and a time of its own.
    pub fn new(path: &'a (impl AsRef<[u8]> + ?Sized), kind: Kind<'a>) -> Self {
        let path = path.as_ref();
        Entry {
            path,
            kind,
            mode: if matches!(kind, Kind::Directory) {
                0o755
            } else {
                0o644
            },
            uid: 0,
            gid: 0,
            mtime: (1_600_000_000 + path.len() as i64, 0),
            xattrs: &[],
        }
    }

    /// With other permission bits.
    pub fn mode(self, mode: u32) -> Self {
        Entry { mode, ..self }
    }

    /// With another owner.
    pub fn owner(self, uid: u32, gid: u32) -> Self {
        Entry { uid, gid, ..self }
    }

    /// With another time.
    pub fn mtime(self, secs: i64, nanos: u32) -> Self {
        Entry {
            mtime: (secs, nanos),
            ..self
        }
    }

    /// With extended attributes.
    pub fn xattrs(self, xattrs: Xattrs<'a>) -> Self {
        Entry { xattrs, ..self }
    }
}

/// A run of data in a sparse file.
#[derive(Clone, Copy, Debug)]
pub struct SparsePiece<'a> {
    /// Where it begins.
    pub offset: u64,
    /// The bytes.
    pub data: &'a [u8],
}

/// Writes a layer's tar.
pub struct LayerTar<W: Write> {
    tar: tar::Builder<W>,
}

impl<W: Write> LayerTar<W> {
    /// Starts a tar that is written to `out`.
    pub fn new(out: W) -> Self {
        LayerTar {
            tar: tar::Builder::new(out),
        }
    }

    /// Appends an entry.
    pub fn append(&mut self, entry: &Entry<'_>) -> Result<()> {
        let (entry_type, link, device, data): (_, &[u8], _, &[u8]) = match entry.kind {
            Kind::Directory => (tar::EntryType::Directory, b"", None, b""),
            Kind::File(data) => (tar::EntryType::Regular, b"", None, data),
            Kind::Symlink(target) => (tar::EntryType::Symlink, target, None, b""),
            Kind::HardLink(target) => (tar::EntryType::Link, target, None, b""),
            Kind::CharDevice(major, minor) => (tar::EntryType::Char, b"", Some((major, minor)), b""),
            Kind::BlockDevice(major, minor) => (tar::EntryType::Block, b"", Some((major, minor)), b""),
            Kind::Fifo => (tar::EntryType::Fifo, b"", None, b""),
        };
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(entry_type);
        header.set_size(data.len() as u64);
        if let Some((major, minor)) = device {
            header.set_device_major(major)?;
            header.set_device_minor(minor)?;
        }
        let records = self.pax_records(entry, link);
        if !records.is_empty() {
            self.tar.append_pax_extensions(
                records
                    .iter()
                    .map(|(key, value)| (key.as_str(), value.as_slice())),
            )?;
        }
        fill(&mut header, entry, link)?;
        self.tar.append(&header, data).context("append to the tar")
    }

    /// Appends an entry for a name that this layer removes from the lower ones.
    pub fn whiteout(&mut self, dir: &str, name: &str) -> Result<()> {
        self.append(&Entry::new(&format!("{dir}/.wh.{name}"), Kind::File(b"")))
    }

    /// Appends the mark that hides everything the lower layers have in a directory.
    pub fn opaque(&mut self, dir: &str) -> Result<()> {
        self.whiteout(dir, ".wh..opq")
    }

    /// Appends a regular file in GNU's sparse form: `size` bytes that are zero outside of the pieces. Pieces begin at
    /// multiples of 512, and all but the last are as long as multiples of 512.
    pub fn sparse(&mut self, path: &str, size: u64, pieces: &[SparsePiece<'_>]) -> Result<()> {
        ensure!(
            pieces.len() <= HEADER_SPARSE_MAX,
            "at most {HEADER_SPARSE_MAX} pieces"
        );
        let mut header = tar::Header::new_gnu();
        header.set_path(path)?;
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_600_000_000);
        header.set_entry_type(tar::EntryType::GNUSparse);
        header.set_size(pieces.iter().map(|piece| piece.data.len() as u64).sum());
        let gnu = header.as_gnu_mut().context("a GNU header")?;
        for (slot, piece) in gnu.sparse.iter_mut().zip(pieces) {
            octal(&mut slot.offset, piece.offset);
            octal(&mut slot.numbytes, piece.data.len() as u64);
        }
        octal(&mut gnu.realsize, size);
        header.set_cksum();
        let mut data: Box<dyn Read> = Box::new(std::io::empty());
        for piece in pieces {
            data = Box::new(data.chain(piece.data));
        }
        self.tar.append(&header, data).context("append to the tar")
    }

    /// Ends the tar and gives the writer back.
    pub fn finish(self) -> Result<W> {
        self.tar.into_inner().context("end the tar")
    }

    /// What the header has no room for.
    fn pax_records(&self, entry: &Entry<'_>, link: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut records = Vec::new();
        if entry.path.len() > HEADER_NAME_MAX {
            records.push(("path".to_owned(), entry.path.to_vec()));
        }
        if link.len() > HEADER_NAME_MAX {
            records.push(("linkpath".to_owned(), link.to_vec()));
        }
        for (key, id) in [("uid", entry.uid), ("gid", entry.gid)] {
            if id > HEADER_OWNER_MAX {
                records.push((key.to_owned(), id.to_string().into_bytes()));
            }
        }
        if entry.mtime.0 < 0 || entry.mtime.1 != 0 {
            records.push(("mtime".to_owned(), decimal(entry.mtime).into_bytes()));
        }
        for (name, value) in entry.xattrs {
            records.push((format!("SCHILY.xattr.{name}"), value.to_vec()));
        }
        records
    }
}

fn fill(header: &mut tar::Header, entry: &Entry<'_>, link: &[u8]) -> Result<()> {
    header.set_mode(entry.mode);
    header.set_uid(u64::from(entry.uid.min(HEADER_OWNER_MAX)));
    header.set_gid(u64::from(entry.gid.min(HEADER_OWNER_MAX)));
    header.set_mtime(u64::try_from(entry.mtime.0).unwrap_or(0));
    let fields = header.as_ustar_mut().context("a ustar header")?;
    let name = &entry.path[..entry.path.len().min(HEADER_NAME_MAX)];
    fields.name[..name.len()].copy_from_slice(name);
    let link = &link[..link.len().min(HEADER_NAME_MAX)];
    fields.linkname[..link.len()].copy_from_slice(link);
    header.set_cksum();
    Ok(())
}

/// A time as PAX writes it: the fraction counts away from zero, so -1.25 is (-2, 750000000).
fn decimal((secs, nanos): (i64, u32)) -> String {
    match (secs, nanos) {
        (secs, 0) => secs.to_string(),
        (..0, _) => format!("-{}.{:09}", -(secs + 1), 1_000_000_000 - nanos),
        _ => format!("{secs}.{nanos:09}"),
    }
}

/// Writes a number as the twelve-byte octal fields of GNU's header want it.
fn octal(field: &mut [u8; 12], number: u64) {
    field.copy_from_slice(format!("{number:011o}\0").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_times_as_pax_does() {
        assert_eq!(decimal((-1, 0)), "-1");
        assert_eq!(decimal((-2, 750_000_000)), "-1.250000000");
        assert_eq!(decimal((-1, 999_999_999)), "-0.000000001");
        assert_eq!(decimal((7, 5)), "7.000000005");
    }
}
