//! Reading the table of contents at the end of a blob file.

use std::ops::Range;

use sha2::{Digest as _, Sha256};
use zerocopy::FromBytes;

use super::meta::{MetaError, uncompress};
use super::tar_header;
use crate::chunk::Compressor;
use crate::layout::{TOC_LZ4, TOC_NONE, TOC_ZSTD, TocEntry};

/// How much of a blob's end holds every table of contents: 28 entries and their tar header.
pub const TOC_TAIL_MAX: u64 = 4096;

/// Name of the table of contents in its tar header.
const NAME: &str = "rafs.blob.toc";
const NO_ENTRIES: &str = "the table of contents is not a number of entries";

/// The sections of a blob file.
#[derive(Clone, Debug)]
pub struct Toc {
    sections: Vec<Section>,
    /// sha256 of the entries and their tar header, as blob tables record it.
    pub digest: [u8; 32],
}

/// One section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name: `image.blob`, `blob.meta`, `blob.meta.header`, `blob.digest` or `image.boot`.
    pub name: String,
    /// Where it lies in the blob file.
    pub range: Range<u64>,
    /// How it is compressed.
    pub compressor: Compressor,
    /// Bytes that it expands to.
    pub len: u64,
    /// sha256 of the expanded section (of `image.blob`: of the section with the tar header behind it).
    pub digest: [u8; 32],
}

impl Toc {
    /// Reads the table of contents of a blob file of `blob_len` bytes that ends with `tail` (the last
    /// [`TOC_TAIL_MAX`] bytes, or the whole file if it is shorter).
    pub fn read(tail: &[u8], blob_len: u64) -> Result<Self, MetaError> {
        let corrupt = |what| MetaError::Corrupt {
            what,
            offset: blob_len.saturating_sub(tail.len() as u64),
        };
        let (bytes, header) = split(tail).map_err(corrupt)?;
        let entries = <[TocEntry]>::ref_from_bytes(bytes).map_err(|_| corrupt(NO_ENTRIES))?;
        let sections = entries
            .iter()
            .map(|entry| section(entry, blob_len).ok_or_else(|| corrupt("a section lies outside the blob")))
            .collect::<Result<_, _>>()?;
        Ok(Toc {
            sections,
            digest: digest(bytes, header),
        })
    }

    /// All sections in order.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The section with a name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }
}

impl Section {
    /// Expands the stored bytes of the section and checks its digest.
    ///
    /// Not for `image.blob`, whose digest covers more than the section.
    pub fn expand(&self, stored: &[u8]) -> Result<Vec<u8>, MetaError> {
        let content = uncompress(stored, self.compressor, self.len)?;
        if <[u8; 32]>::from(Sha256::digest(&content)) != self.digest {
            return Err(MetaError::Corrupt {
                what: "a section has another digest than the table of contents says",
                offset: self.range.start,
            });
        }
        Ok(content)
    }
}

/// Finds entries and tar header in the end of a blob file.
pub(super) fn split(tail: &[u8]) -> Result<(&[u8], &[u8; tar_header::LEN]), &'static str> {
    let (entries, header) = tail
        .split_last_chunk::<{ tar_header::LEN }>()
        .ok_or("the blob is too short for a table of contents")?;
    let len = tar_header::read(header, NAME).ok_or("the blob does not end with a table of contents")?;
    let start = usize::try_from(len)
        .ok()
        .and_then(|len| entries.len().checked_sub(len))
        .ok_or("the table of contents is too long")?;
    let entries = &entries[start..];
    match entries.len() % size_of::<TocEntry>() {
        0 => Ok((entries, header)),
        _ => Err(NO_ENTRIES),
    }
}

/// sha256 of the entries and their tar header.
pub(super) fn digest(entries: &[u8], header: &[u8]) -> [u8; 32] {
    let hash = Sha256::new().chain_update(entries).chain_update(header);
    hash.finalize().into()
}

/// What an entry says, if that makes sense in a file of `blob_len` bytes.
pub(super) fn section(entry: &TocEntry, blob_len: u64) -> Option<Section> {
    let start = entry.compressed_offset.get();
    let end = start.checked_add(entry.compressed_size.get())?;
    let name = entry.name.split(|&byte| byte == 0).next()?;
    let compressor = match entry.flags.get() {
        TOC_NONE => Compressor::None,
        TOC_ZSTD => Compressor::Zstd,
        TOC_LZ4 => Compressor::Lz4Block,
        _ => return None,
    };
    (end <= blob_len).then_some(Section {
        name: std::str::from_utf8(name).ok()?.to_owned(),
        range: start..end,
        compressor,
        len: entry.uncompressed_size.get(),
        digest: entry.digest,
    })
}
