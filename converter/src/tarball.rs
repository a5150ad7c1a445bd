//! Reading tar streams exactly: ustar, GNU, star and PAX, sparse files, binary attributes, signed times.
//!
//! The `tar` crate splits PAX records at newlines, so a binary attribute can change the name or the length of a
//! member, and it has no signed times and no PAX sparse files. A converter that promises exactness needs its own
//! reader; the crate still writes the archives.

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;

mod header;
pub(crate) mod pax;
mod sparse;
#[cfg(test)]
mod tests;

pub use header::Kind;
use header::{BLOCK_LEN, Header};
use pax::{Globals, Records};
use rafs::Timestamp;
use sparse::Segment;

/// Longest extended header or long name taken into memory. Go's reader, which containerd uses, has the same limit.
const EXTENSION_LEN_MAX: u64 = 1 << 20;

/// Most bytes of records that global headers may set: every member has them all, attributes among them.
const GLOBAL_LEN_MAX: usize = 64 << 10;

/// Why a stream is not a tar archive this reader can take. `offset` counts uncompressed bytes.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The bytes below could not be read.
    #[error("reading the archive at byte {offset}")]
    Io {
        /// Where.
        offset: u64,
        /// Why: among others, what the decompressor says of damaged input.
        source: std::io::Error,
    },
    /// The stream ends inside a member.
    #[error("archive is truncated at byte {offset}")]
    Truncated {
        /// Where.
        offset: u64,
    },
    /// A header or an extension that does not parse.
    #[error("damaged archive: {what} at byte {offset}")]
    Corrupt {
        /// What is wrong.
        what: &'static str,
        /// Start of the header.
        offset: u64,
    },
    /// A member type that cannot become a file.
    #[error("member {path:?} at byte {offset} has unsupported type {type_flag:?}")]
    UnsupportedType {
        /// The name, lossily.
        path: String,
        /// The type byte.
        type_flag: char,
        /// Start of the header.
        offset: u64,
    },
}

/// One member's metadata, with all extensions applied. Names are as written, not cleaned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name.
    pub path: Vec<u8>,
    /// Target of a link, empty for others.
    pub link: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// 0..=0o7777.
    pub permissions: u16,
    /// Owner, as wide as the archive can say it.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Modification time.
    pub mtime: Timestamp,
    /// Device major and minor; 0 unless a device.
    pub device: (u64, u64),
    /// Extended attributes by full name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Bytes of content, holes included; 0 unless a regular file.
    pub size: u64,
    /// How many of them are in no stored run: zeros that cost the archive nothing.
    pub hole_len: u64,
    /// Offset of the member's own header in the uncompressed stream.
    pub offset: u64,
}

/// Reads members one after the other. The content of the current one comes from [`Reader::read`].
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    offset: u64,
    globals: Globals,
    content: Content,
}

/// What is left of the current member.
#[derive(Debug, Default)]
struct Content {
    /// Logical position and end.
    position: u64,
    size: u64,
    /// Stored runs not yet read to their end, in order; what lies between them is zero.
    segments: VecDeque<Segment>,
    /// Stored bytes and padding that follow the header and are not yet consumed.
    stored: u64,
    padding: u64,
}

/// Extension headers seen before a member's own header.
#[derive(Default)]
struct Pending {
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    records: Records,
    any: bool,
}

impl<R: Read> Reader<R> {
    /// Starts at the first header.
    pub fn new(input: R) -> Self {
        Reader {
            input,
            offset: 0,
            globals: Globals::default(),
            content: Content::default(),
        }
    }

    /// Bytes of the stream consumed so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Gives back the stream, for what follows the end-of-archive marker.
    pub fn into_inner(self) -> R {
        self.input
    }

    /// Moves to the next member; what is left of the current one is skipped. `None` at the end marker.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        self.skip_content()?;
        let mut pending = Pending::default();
        loop {
            let offset = self.offset;
            let Some(header) = self.next_header()? else {
                return match pending.any {
                    true => Err(TarError::Truncated { offset }),
                    false => Ok(None),
                };
            };
            match header.type_flag {
                b'x' | b'X' => {
                    let data = self.extension(&header)?;
                    pending.records = Records::parse(&data, offset)?;
                }
                b'g' => {
                    let data = self.extension(&header)?;
                    if self.globals.update(Records::parse(&data, offset)?) > GLOBAL_LEN_MAX {
                        return Err(header.corrupt("global extended headers longer than 64 KiB"));
                    }
                    continue;
                }
                b'L' => pending.long_path = Some(until_nul(self.extension(&header)?)),
                b'K' => pending.long_link = Some(until_nul(self.extension(&header)?)),
                b'V' => {
                    tracing::warn!(offset, "volume label skipped");
                    self.content.stored = header.size()?;
                    self.content.padding = padding(self.content.stored);
                    self.skip_content()?;
                    continue;
                }
                _ => return self.entry(&header, pending).map(Some),
            }
            pending.any = true;
        }
    }

    /// Reads content of the current member into `buf`, filling it unless the content ends first.
    pub fn read(&mut self, buf: &mut [u8]) -> Result<usize, TarError> {
        let mut filled = 0;
        while filled < buf.len() && self.content.position < self.content.size {
            let len = self.content.next_run(buf.len() - filled);
            let part = &mut buf[filled..filled + len];
            match self.content.in_hole() {
                true => part.fill(0),
                false => {
                    read_exact(&mut self.input, part, &mut self.offset)?;
                    self.content.stored -= len as u64;
                }
            }
            self.content.advance(len as u64);
            filled += len;
        }
        Ok(filled)
    }

    fn next_header(&mut self) -> Result<Option<Header>, TarError> {
        let offset = self.offset;
        let mut block = [0; BLOCK_LEN];
        let mut filled = 0;
        while filled < BLOCK_LEN {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(TarError::Truncated { offset: self.offset }),
                Ok(read) => {
                    filled += read;
                    self.offset += read as u64;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(TarError::Io {
                        offset: self.offset,
                        source,
                    });
                }
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        Header::parse(block, offset).map(Some)
    }

    fn extension(&mut self, header: &Header) -> Result<Vec<u8>, TarError> {
        let size = header.size()?;
        if size > EXTENSION_LEN_MAX {
            return Err(header.corrupt("extended header longer than 1 MiB"));
        }
        let mut data = vec![0; usize::try_from(size).expect("at most EXTENSION_LEN_MAX")];
        read_exact(&mut self.input, &mut data, &mut self.offset)?;
        self.content.padding = padding(size);
        self.skip_content()?;
        Ok(data)
    }

    fn entry(&mut self, header: &Header, pending: Pending) -> Result<Entry, TarError> {
        let records = pending.records.with(&self.globals);
        let entry = header.entry(pending.long_path, pending.long_link, &records)?;
        let stored = match entry.kind.has_content() {
            true => records.size(header.offset)?.map_or_else(|| header.size(), Ok)?,
            false => header.ignored_len()?,
        };
        self.content = Content {
            stored,
            padding: padding(stored),
            ..Content::default()
        };
        if entry.kind != Kind::Regular {
            return Ok(entry);
        }
        let map = self.sparse_map(header, &records)?;
        let (size, segments) = match map {
            None => (
                stored,
                vec![Segment {
                    offset: 0,
                    len: stored,
                }],
            ),
            Some(map) => map.check(self.content.stored, header.offset)?,
        };
        self.content.size = size;
        self.content.segments = segments.into();
        let hole_len = size.saturating_sub(self.content.stored);
        Ok(Entry {
            size,
            hole_len,
            ..entry
        })
    }

    fn sparse_map(&mut self, header: &Header, records: &Records) -> Result<Option<sparse::Map>, TarError> {
        if header.type_flag == b'S' {
            let (mut map, mut is_extended) = sparse::Map::from_header(header)?;
            while is_extended {
                let mut block = [0; BLOCK_LEN];
                read_exact(&mut self.input, &mut block, &mut self.offset)?;
                is_extended = map.extend(&block, header.offset)?;
            }
            return Ok(Some(map));
        }
        match records.sparse(header.offset)? {
            pax::Sparse::None => Ok(None),
            pax::Sparse::Map(map) => Ok(Some(map)),
            pax::Sparse::InContent { size } => {
                let input = &mut self.input;
                let (offset, stored) = (&mut self.offset, &mut self.content.stored);
                sparse::Map::from_content(size, header.offset, || {
                    let mut block = [0; BLOCK_LEN];
                    *stored = stored
                        .checked_sub(BLOCK_LEN as u64)
                        .ok_or_else(|| header.corrupt("sparse map longer than its member"))?;
                    read_exact(input, &mut block, offset)?;
                    Ok(block)
                })
                .map(Some)
            }
        }
    }

    fn skip_content(&mut self) -> Result<(), TarError> {
        let content = std::mem::take(&mut self.content);
        // Not one sum: both may be near the ends of their ranges in a hostile header.
        for len in [content.stored, content.padding] {
            let skipped =
                std::io::copy(&mut (&mut self.input).take(len), &mut std::io::sink()).map_err(|source| {
                    TarError::Io {
                        offset: self.offset,
                        source,
                    }
                })?;
            self.offset += skipped;
            if skipped < len {
                return Err(TarError::Truncated { offset: self.offset });
            }
        }
        Ok(())
    }
}

impl Content {
    fn in_hole(&self) -> bool {
        self.segments
            .front()
            .is_none_or(|segment| self.position < segment.offset)
    }

    /// Bytes until hole or data ends, at most `room`.
    fn next_run(&self, room: usize) -> usize {
        let end = match self.segments.front() {
            None => self.size,
            Some(segment) if self.position < segment.offset => segment.offset,
            Some(segment) => segment.offset + segment.len,
        };
        usize::try_from(end - self.position)
            .unwrap_or(usize::MAX)
            .min(room)
    }

    fn advance(&mut self, len: u64) {
        self.position += len;
        while self
            .segments
            .front()
            .is_some_and(|segment| segment.offset + segment.len <= self.position)
        {
            self.segments.pop_front();
        }
    }
}

fn read_exact(input: &mut impl Read, mut buf: &mut [u8], offset: &mut u64) -> Result<(), TarError> {
    while !buf.is_empty() {
        match input.read(buf) {
            Ok(0) => return Err(TarError::Truncated { offset: *offset }),
            Ok(read) => {
                *offset += read as u64;
                buf = &mut buf[read..];
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(source) => {
                return Err(TarError::Io {
                    offset: *offset,
                    source,
                });
            }
        }
    }
    Ok(())
}

fn padding(len: u64) -> u64 {
    (BLOCK_LEN as u64 - len % BLOCK_LEN as u64) % BLOCK_LEN as u64
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let len = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(len);
    bytes
}
