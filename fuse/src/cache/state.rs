//! The state file of a cached blob: which chunks its data file holds, as far as anyone remembers.
//!
//! A 4096-byte header says what the file is about, then each chunk has one entry. An all-zero entry means
//! "absent"; the file is sparse, so a blob of which nothing is cached costs one block.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rafs::{Digest, Digester, Span};
use rustix::fs::SeekFrom;
use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Shape;

/// Length of the header in bytes: one page, so that entries start aligned.
const HEADER_LEN: u64 = 4096;

/// First bytes of every state file.
const MAGIC: [u8; 8] = *b"SLWSTATE";

/// Version of the layout; another version is not read but remade.
const VERSION: u32 = 1;

/// Bytes read at once while loading. Larger than most state files, small beside a chunk.
const LOAD_LEN: usize = 64 << 10;

#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    version: U32,
    entry_len: U32,
    blob_id: [u8; 32],
    uncompressed_size: U64,
    chunk_count: U32,
    digester: U32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawEntry {
    digest: [u8; 32],
    offset: U64,
    len: U32,
    reserved: U32,
}

const ENTRY_LEN: usize = size_of::<RawEntry>();

/// What an entry says: this content lies there in the data file. The place is part of it because two images
/// may disagree about it, and then the bytes belong to the one that wrote them only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Digest of the content.
    pub(crate) digest: Digest,
    /// Where it lies in the data file.
    pub(crate) place: Span,
}

fn header(shape: &Shape) -> Header {
    Header {
        magic: MAGIC,
        version: VERSION.into(),
        entry_len: (ENTRY_LEN as u32).into(),
        blob_id: shape.id.0,
        uncompressed_size: shape.uncompressed_size.into(),
        chunk_count: shape.chunk_count.into(),
        digester: match shape.digester {
            Digester::Blake3 => 0,
            Digester::Sha256 => 1,
        }
        .into(),
    }
}

fn file_len(shape: &Shape) -> u64 {
    HEADER_LEN + u64::from(shape.chunk_count) * ENTRY_LEN as u64
}

/// Writes the header of a state file without entries into an empty file.
///
/// # Errors
/// The file system refuses.
pub(crate) fn create(file: &File, shape: &Shape) -> io::Result<()> {
    file.set_len(file_len(shape))?;
    file.write_all_at(header(shape).as_bytes(), 0)
}

/// Reads all entries. `None` if the file is not the state of this blob: foreign, truncated, of another version.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn load(file: &File, shape: &Shape) -> io::Result<Option<Vec<(u32, Entry)>>> {
    let len = file_len(shape);
    if file.metadata()?.len() != len {
        return Ok(None);
    }
    let mut found = [0; size_of::<Header>()];
    file.read_exact_at(&mut found, 0)?;
    if found != header(shape).as_bytes() {
        return Ok(None);
    }
    let mut entries = Vec::new();
    let mut offset = HEADER_LEN;
    let mut buffer = vec![0; LOAD_LEN / ENTRY_LEN * ENTRY_LEN];
    while let Some(start) = next_data(file, offset, len)? {
        // Entries straddle blocks: begin with the one that `start` lies in.
        let index = (start - HEADER_LEN) / ENTRY_LEN as u64;
        offset = HEADER_LEN + index * ENTRY_LEN as u64;
        let take = buffer
            .len()
            .min(usize::try_from(len - offset).unwrap_or(usize::MAX));
        file.read_exact_at(&mut buffer[..take], offset)?;
        let first = u32::try_from(index).expect("entries are counted by a u32 chunk count");
        entries.extend(parse(&buffer[..take], first));
        offset += take as u64;
    }
    Ok(Some(entries))
}

/// Finds the next byte at or after `offset` that is not in a hole.
fn next_data(file: &File, offset: u64, len: u64) -> io::Result<Option<u64>> {
    if offset >= len {
        return Ok(None);
    }
    match rustix::fs::seek(file.as_fd(), SeekFrom::Data(offset)) {
        Ok(at) => Ok((at < len).then_some(at)),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn parse(bytes: &[u8], first: u32) -> impl Iterator<Item = (u32, Entry)> {
    bytes
        .chunks_exact(ENTRY_LEN)
        .zip(first..)
        .filter_map(|(bytes, index)| {
            let raw = RawEntry::read_from_bytes(bytes).ok()?;
            let entry = Entry {
                digest: Digest(raw.digest),
                place: Span {
                    offset: raw.offset.get(),
                    len: raw.len.get(),
                },
            };
            (raw.digest != [0; 32]).then_some((index, entry))
        })
}

/// Writes the entry of a chunk; `None` makes it absent.
///
/// # Errors
/// The file system refuses; what the entry says then is unknown.
pub(crate) fn record(file: &File, index: u32, entry: Option<&Entry>) -> io::Result<()> {
    let raw = match entry {
        Some(entry) => RawEntry {
            digest: entry.digest.0,
            offset: entry.place.offset.into(),
            len: entry.place.len.into(),
            reserved: 0.into(),
        },
        None => RawEntry {
            digest: [0; 32],
            offset: 0.into(),
            len: 0.into(),
            reserved: 0.into(),
        },
    };
    file.write_all_at(raw.as_bytes(), HEADER_LEN + u64::from(index) * ENTRY_LEN as u64)
}

#[cfg(test)]
mod tests;
