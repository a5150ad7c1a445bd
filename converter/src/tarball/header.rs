//! One 512-byte header: its dialects, its numbers, and the member it describes.

use std::ops::Range;

use rafs::Timestamp;

use super::pax::Records;
use super::{Entry, TarError};

pub(super) const BLOCK_LEN: usize = 512;

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const TYPE_FLAG: usize = 156;
const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..265;
const DEVICE_MAJOR: Range<usize> = 329..337;
const DEVICE_MINOR: Range<usize> = 337..345;
const PREFIX: Range<usize> = 345..500;
/// Star ends its shorter prefix here; access and change times follow.
const STAR_PREFIX: Range<usize> = 345..476;
const STAR_TRAILER: Range<usize> = 508..512;

const S_IFMT: u64 = 0o170_000;
const S_IFSOCK: u64 = 0o140_000;

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Regular file, sparse or not.
    Regular,
    /// Another name of an earlier file.
    HardLink,
    /// Symbolic link.
    Symlink,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
    /// Directory.
    Directory,
    /// Named pipe.
    Fifo,
    /// Socket. Tar has no type for it; some writers keep its mode bits in an empty regular member.
    Socket,
}

impl Kind {
    /// Whether the size field counts bytes that follow the header.
    pub(super) fn has_content(self) -> bool {
        matches!(self, Kind::Regular | Kind::Socket)
    }
}

/// Who wrote the header, as far as the fields differ.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    V7,
    Ustar,
    Star,
    Gnu,
}

/// A header whose checksum is right.
pub(super) struct Header {
    pub(super) type_flag: u8,
    pub(super) offset: u64,
    pub(super) block: [u8; BLOCK_LEN],
    dialect: Dialect,
}

impl Header {
    pub(super) fn parse(block: [u8; BLOCK_LEN], offset: u64) -> Result<Self, TarError> {
        let dialect = match &block[MAGIC] {
            b"ustar\x0000" if &block[STAR_TRAILER] == b"tar\0" => Dialect::Star,
            b"ustar  \0" => Dialect::Gnu,
            magic if magic.starts_with(b"ustar") => Dialect::Ustar,
            _ => Dialect::V7,
        };
        let header = Header {
            type_flag: block[TYPE_FLAG],
            offset,
            block,
            dialect,
        };
        let stored = header.number(CHECKSUM, "checksum is not a number")?;
        let counted = |byte: (usize, &u8)| if CHECKSUM.contains(&byte.0) { b' ' } else { *byte.1 };
        let bytes = || header.block.iter().enumerate().map(counted);
        let unsigned: i64 = bytes().map(i64::from).sum();
        // Some old writers summed signed bytes.
        let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
        if stored != unsigned && stored != signed {
            return Err(header.corrupt("header checksum does not match"));
        }
        Ok(header)
    }

    pub(super) fn corrupt(&self, what: &'static str) -> TarError {
        TarError::Corrupt {
            what,
            offset: self.offset,
        }
    }

    /// The size field.
    pub(super) fn size(&self) -> Result<u64, TarError> {
        self.unsigned(SIZE, "size is not a number")
    }

    /// Length of data behind a member that has none of its own: only GNU's directory dumps do.
    pub(super) fn ignored_len(&self) -> Result<u64, TarError> {
        match self.type_flag {
            b'D' => self.size(),
            _ => Ok(0),
        }
    }

    pub(super) fn unsigned(&self, field: Range<usize>, what: &'static str) -> Result<u64, TarError> {
        let value = self.number(field, what)?;
        u64::try_from(value).map_err(|_| self.corrupt(what))
    }

    fn number(&self, field: Range<usize>, what: &'static str) -> Result<i64, TarError> {
        parse_number(&self.block[field]).ok_or_else(|| self.corrupt(what))
    }

    /// Everything but content and sparse map.
    pub(super) fn entry(
        &self,
        long_path: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
        records: &Records,
    ) -> Result<Entry, TarError> {
        let path = records.path().or(long_path).unwrap_or_else(|| self.path());
        let mode = self.unsigned(MODE, "mode is not a number")?;
        let kind = self.kind(&path, mode, records)?;
        let link = match kind {
            Kind::HardLink | Kind::Symlink => records
                .link()
                .or(long_link)
                .unwrap_or_else(|| text(&self.block[LINK]).to_vec()),
            _ => Vec::new(),
        };
        let has_device_fields =
            self.dialect != Dialect::V7 && matches!(kind, Kind::CharDevice | Kind::BlockDevice);
        let device = match has_device_fields {
            true => (
                self.unsigned(DEVICE_MAJOR, "device major is not a number")?,
                self.unsigned(DEVICE_MINOR, "device minor is not a number")?,
            ),
            false => (0, 0),
        };
        let header_id = |field, what| self.unsigned(field, what);
        Ok(Entry {
            link,
            kind,
            permissions: u16::try_from(mode & 0o7777).expect("twelve bits"),
            uid: records
                .uid(self.offset)?
                .map_or_else(|| header_id(UID, "uid is not a number"), Ok)?,
            gid: records
                .gid(self.offset)?
                .map_or_else(|| header_id(GID, "gid is not a number"), Ok)?,
            mtime: match records.mtime(self.offset)? {
                Some(mtime) => mtime,
                None => Timestamp {
                    secs: self.number(MTIME, "mtime is not a number")?,
                    nanos: 0,
                },
            },
            device,
            xattrs: records.xattrs(),
            size: 0,
            hole_len: 0,
            offset: self.offset,
            path,
        })
    }

    fn kind(&self, path: &[u8], mode: u64, records: &Records) -> Result<Kind, TarError> {
        Ok(match self.type_flag {
            // Before ustar a directory was a regular member whose name ends in a slash.
            0 if path.ends_with(b"/") => Kind::Directory,
            0 | b'0'
                if mode & S_IFMT == S_IFSOCK && self.size()? == 0 && records.size(self.offset)?.is_none() =>
            {
                Kind::Socket
            }
            0 | b'0' | b'7' | b'S' => Kind::Regular,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            b'5' | b'D' => Kind::Directory,
            b'6' => Kind::Fifo,
            type_flag => {
                return Err(TarError::UnsupportedType {
                    path: String::from_utf8_lossy(path).into_owned(),
                    type_flag: char::from(type_flag),
                    offset: self.offset,
                });
            }
        })
    }

    fn path(&self) -> Vec<u8> {
        let name = text(&self.block[NAME]);
        let prefix = match self.dialect {
            Dialect::Ustar => text(&self.block[PREFIX]),
            Dialect::Star => text(&self.block[STAR_PREFIX]),
            Dialect::V7 | Dialect::Gnu => b"",
        };
        match prefix.is_empty() {
            true => name.to_vec(),
            false => [prefix, name].join(&b'/'),
        }
    }
}

/// A numeric field: octal text, or base 256 with sign when the first bit is set. Blank is 0.
pub(super) fn parse_number(field: &[u8]) -> Option<i64> {
    if field.first()? & 0x80 != 0 {
        // The marker bit is replaced by a copy of the next bit, the sign of the two's complement number.
        let first = field[0].cast_signed() << 1 >> 1;
        let value = field[1..].iter().try_fold(i128::from(first), |value, byte| {
            value.checked_mul(256)?.checked_add(i128::from(*byte))
        });
        return i64::try_from(value?).ok();
    }
    let blank = |byte: &u8| *byte == b' ' || *byte == 0;
    let start = field.iter().position(|byte| !blank(byte)).unwrap_or(field.len());
    let digits = &field[start..];
    let digits = &digits[..digits.iter().position(blank).unwrap_or(digits.len())];
    digits.iter().try_fold(0i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|byte| *byte == 0).unwrap_or(field.len())]
}
