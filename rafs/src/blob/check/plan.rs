//! Which part of a blob file lies where.

use std::ops::Range;

use super::toc::Contents;
use super::{Faults, HEADER_LEN};
use crate::image::Blob;
use crate::layout::{self, BLOCK};

/// What a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Chunks.
    Data,
    /// The tar header behind the section with this name and size.
    Header { name: &'static str, size: u64 },
    /// Chunk infos as stored.
    Infos,
    /// Their header.
    InfosHeader,
    /// Digests of all chunks.
    Digests,
    /// The layer's own bootstrap as stored.
    Bootstrap,
    /// Entries of the table of contents.
    Toc,
    /// Bytes that nothing accounts for.
    Unknown,
    /// Bytes that an older version may have meant something by.
    Undescribed,
}

/// A part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) kind: Kind,
    pub(super) range: Range<u64>,
}

impl Kind {
    /// Its name in tables of contents.
    pub(super) fn section(self) -> Option<&'static str> {
        match self {
            Kind::Data => Some("image.blob"),
            Kind::Infos => Some("blob.meta"),
            Kind::InfosHeader => Some("blob.meta.header"),
            Kind::Digests => Some("blob.digest"),
            Kind::Bootstrap => Some("image.boot"),
            Kind::Header { .. } | Kind::Toc | Kind::Unknown | Kind::Undescribed => None,
        }
    }

    /// Its name in faults.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Header { .. } => "a tar header",
            Kind::Toc => "the table of contents",
            Kind::Unknown | Kind::Undescribed => "an unknown part",
            kind => kind.section().unwrap_or_default(),
        }
    }
}

/// Whether the blob's parts are where they are described. Versions before 2.2 laid them out otherwise, and of theirs
/// only the places of the chunk infos are known.
pub(super) fn is_described(blob: &Blob) -> bool {
    blob.features & layout::BLOB_CAP_TAR_TOC != 0
}

/// Parts one behind the other.
struct Plan {
    parts: Vec<Part>,
    at: u64,
    has_headers: bool,
}

impl Plan {
    fn push(&mut self, kind: Kind, len: u64) {
        let end = self.at.saturating_add(len);
        self.parts.push(Part {
            kind,
            range: self.at..end,
        });
        self.at = end;
    }

    fn header(&mut self, name: &'static str, size: u64) {
        if self.has_headers {
            self.push(Kind::Header { name, size }, HEADER_LEN);
        }
    }
}

/// The parts of the file that holds the chunk infos of `blob`, without gaps. They end at `len`, or behind it if the file is
/// too short.
pub(super) fn parts(blob: &Blob, len: u64, contents: &Contents, faults: &mut Faults) -> Vec<Part> {
    let meta = &blob.meta;
    let mut plan = Plan {
        parts: Vec::new(),
        at: 0,
        has_headers: blob.features & layout::BLOB_TAR_HEADER != 0,
    };
    if blob.meta_blob.is_some() {
        if meta.offset > 0 {
            plan.push(Kind::Unknown, meta.offset);
        }
    } else {
        let header_len = if plan.has_headers { HEADER_LEN } else { 0 };
        let data_len = meta.offset.saturating_sub(header_len);
        plan.push(Kind::Data, data_len);
        plan.header("image.blob", data_len);
    }
    if plan.at != meta.offset {
        faults.push(meta.offset, "the chunk infos lie where the chunks' tar header is");
    }
    plan.push(Kind::Infos, meta.compressed_size);
    plan.push(Kind::InfosHeader, BLOCK);
    if !is_described(blob) {
        plan.push(Kind::Undescribed, len.saturating_sub(plan.at));
        return plan.parts;
    }
    plan.header("blob.meta", meta.compressed_size.saturating_add(BLOCK));
    let has_toc = blob.features & layout::BLOB_TOC != 0;
    if has_toc && blob.features & layout::BLOB_INLINED_CHUNK_DIGEST != 0 {
        let digests_len = 32 * u64::from(blob.chunk_count);
        plan.push(Kind::Digests, digests_len);
        plan.header("blob.digest", digests_len);
    }
    let toc_start = len.saturating_sub(contents.len());
    let bootstrap = bootstrap_len(&plan, toc_start, contents);
    if let Some(bootstrap_len) = bootstrap {
        compare_size(blob, plan.at, faults);
        plan.push(Kind::Bootstrap, bootstrap_len);
        plan.header("image.boot", bootstrap_len);
    } else {
        compare_size(blob, len, faults);
    }
    if plan.at < toc_start {
        let count = toc_start - plan.at;
        // A table of contents that is not found was told as that, and may be among them.
        faults.push(plan.at, format!("{count} bytes that nothing accounts for"));
        plan.push(Kind::Unknown, count);
    }
    if let Some(entries_len) = contents.entries_len() {
        plan.push(Kind::Toc, entries_len);
        plan.header("rafs.blob.toc", entries_len);
    }
    plan.parts
}

/// Bytes of the layer's own bootstrap, if there is one.
fn bootstrap_len(plan: &Plan, toc_start: u64, contents: &Contents) -> Option<u64> {
    let room = toc_start.checked_sub(plan.at)?.checked_sub(HEADER_LEN)?;
    if !plan.has_headers {
        return None;
    }
    match (contents.entries_len(), contents.section("image.boot")) {
        (Some(_), Some(listed)) => Some((listed.range.end - listed.range.start).min(room)),
        (Some(_), None) => None,
        (None, _) => contents.ends_with_bootstrap().then_some(room),
    }
}

/// The blob table counts up to the layer's own bootstrap, or all. That a file is cut off is told where it ends.
fn compare_size(blob: &Blob, end: u64, faults: &mut Faults) {
    let said = blob.compressed_size;
    if blob.meta_blob.is_none() && said < end {
        faults.push(
            said,
            format!("the blob table counts {said} bytes, it should be {end}"),
        );
    }
}
