//! The table of contents of a blob file, held against what lies where.

use zerocopy::FromBytes;

use super::plan::{Kind, Part};
use super::{Faults, HEADER_LEN};
use crate::blob::tar_header;
use crate::blob::toc::{self, Section};
use crate::chunk::Compressor;
use crate::image::Blob;
use crate::layout::{BLOB_TOC, BLOCK, TocEntry};

/// What a table of contents says; nothing if there is none or it cannot be found.
#[derive(Default)]
pub(super) struct Contents {
    /// Entries in order; `None` for those that say nothing.
    entries: Vec<Option<Section>>,
    /// Offset of the entries in the file.
    start: u64,
    is_found: bool,
    ends_with_bootstrap: bool,
}

const ENTRY_LEN: u64 = size_of::<TocEntry>() as u64;

impl Contents {
    /// Looks for the table of contents at the end of a file.
    pub(super) fn read(blob: &Blob, len: u64, tail: &[u8], faults: &mut Faults) -> Self {
        let ends_with_bootstrap = tail
            .last_chunk::<{ tar_header::LEN }>()
            .is_some_and(|header| tar_header::read(header, "image.boot").is_some());
        let none = Contents {
            ends_with_bootstrap,
            ..Contents::default()
        };
        if blob.features & BLOB_TOC == 0 {
            return none;
        }
        let (entries, header) = match toc::split(tail) {
            Ok(found) => found,
            Err(what) => {
                // Of a file that is cut off, where it ends says it all.
                if blob.meta_blob.is_some() || len >= blob.compressed_size {
                    faults.push(len.saturating_sub(HEADER_LEN), what);
                }
                return none;
            }
        };
        let start = len.saturating_sub(entries.len() as u64 + HEADER_LEN);
        let place = blob.toc;
        if place.size != 0 {
            let is_same = u64::from(place.size) == entries.len() as u64 + HEADER_LEN
                && toc::digest(entries, header) == place.digest;
            if !is_same {
                faults.push(
                    start,
                    "the table of contents is not the one of which the blob table has the digest",
                );
            }
        }
        let mut found = Contents {
            start,
            is_found: true,
            ends_with_bootstrap: false,
            entries: Vec::new(),
        };
        let raw = <[TocEntry]>::ref_from_bytes(entries).unwrap_or_default();
        for (number, entry) in (0_u64..).zip(raw) {
            let section = toc::section(entry, len);
            let offset = start + number * ENTRY_LEN;
            match &section {
                None => faults.push(
                    offset,
                    "an entry of the table of contents lies outside the file, or its name or compression is unknown",
                ),
                Some(section) if found.section(&section.name).is_some() => {
                    faults.push(offset, format!("{} is listed twice", section.name));
                }
                Some(section) if !is_zero_beside(section, entry) => {
                    faults.push(offset, "reserved bytes of an entry are not zero");
                }
                Some(_) => {}
            }
            found.entries.push(section);
        }
        found
    }

    /// Bytes at the end of the file that are the table and its tar header.
    pub(super) fn len(&self) -> u64 {
        self.entries_len()
            .map_or(0, |entries_len| entries_len + HEADER_LEN)
    }

    /// Bytes of the entries, if there is a table.
    pub(super) fn entries_len(&self) -> Option<u64> {
        self.is_found.then_some(self.entries.len() as u64 * ENTRY_LEN)
    }

    /// Whether the file ends with the tar header of a bootstrap.
    pub(super) fn ends_with_bootstrap(&self) -> bool {
        self.ends_with_bootstrap
    }

    /// The first entry with a name.
    pub(super) fn section(&self, name: &str) -> Option<&Section> {
        let mut sections = self.entries.iter().flatten();
        sections.find(|section| section.name == name)
    }

    /// Compares what is listed with what lies there.
    pub(super) fn compare(&self, blob: &Blob, parts: &[Part], faults: &mut Faults) {
        if !self.is_found {
            return;
        }
        let names = || parts.iter().filter_map(|part| part.kind.section());
        for (number, section) in (0_u64..).zip(&self.entries) {
            let Some(section) = section else { continue };
            if names().all(|name| name != section.name) {
                let offset = self.start + number * ENTRY_LEN;
                faults.push(
                    offset,
                    format!("{:?} is listed, and is no part of the file", section.name),
                );
            }
        }
        for part in parts {
            let Some(name) = part.kind.section() else { continue };
            match self.position(name) {
                Some((number, section)) => {
                    let offset = self.start + number * ENTRY_LEN;
                    compare_one(blob, part, section, offset, faults);
                }
                None => faults.push(self.start, format!("{name} is not listed")),
            }
        }
    }

    fn position(&self, name: &str) -> Option<(u64, &Section)> {
        let mut entries = (0_u64..).zip(&self.entries);
        entries.find_map(|(number, section)| {
            let section = section.as_ref().filter(|section| section.name == name)?;
            Some((number, section))
        })
    }
}

/// Whether all that says nothing in an entry is zero.
fn is_zero_beside(section: &Section, entry: &TocEntry) -> bool {
    let behind_name = entry.name.get(section.name.len()..).unwrap_or_default();
    entry.reserved.get() == 0 && entry.reserved_tail == [0; 48] && behind_name.iter().all(|&byte| byte == 0)
}

fn compare_one(blob: &Blob, part: &Part, section: &Section, offset: u64, faults: &mut Faults) {
    let name = &section.name;
    if section.range != part.range {
        let (said, is) = (&section.range, &part.range);
        faults.push(
            offset,
            format!(
                "{name} is listed at {}..{}, it lies at {}..{}",
                said.start, said.end, is.start, is.end
            ),
        );
    }
    let stored = part.range.end - part.range.start;
    let (compressor, len) = match part.kind {
        Kind::Data => (Compressor::None, blob.uncompressed_size),
        Kind::Infos => (blob.meta.compressor, blob.meta.uncompressed_size),
        Kind::InfosHeader => (Compressor::None, BLOCK),
        Kind::Digests => (Compressor::None, stored),
        // Nothing else says how a bootstrap is stored.
        _ => (section.compressor, section.len),
    };
    if section.compressor != compressor {
        faults.push(offset, format!("{name} is listed with another compression"));
    }
    if section.len != len {
        let said = section.len;
        faults.push(
            offset,
            format!("{name} is listed with {said} bytes uncompressed, it has {len}"),
        );
    }
}
