//! The chunks of a blob file: that they fill it, and that nothing but zeros lies between them.

use std::ops::Range;

use sha2::{Digest as _, Sha256};

use super::{Faults, PADDING_MAX};
use crate::blob::Units;
use crate::chunk::Span;
use crate::layout::BLOCK;

/// The bytes of the chunks as they pass.
pub(super) struct Data<'a> {
    hash: Sha256,
    at: u64,
    gaps: Option<Gaps<'a>>,
    /// Padding ahead or under way.
    padding: Option<Range<u64>>,
}

impl<'a> Data<'a> {
    /// For chunks that end at `end`. Without chunk infos nothing is known of them.
    pub(super) fn new(infos: Option<&'a Units>, end: u64, faults: &mut Faults) -> Self {
        let mut gaps = infos.map(|infos| Gaps::new(infos, end));
        Data {
            hash: Sha256::new(),
            at: 0,
            padding: gaps.as_mut().and_then(|gaps| gaps.next_padding(faults)),
            gaps,
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8], faults: &mut Faults) {
        self.hash.update(bytes);
        let end = self.at + bytes.len() as u64;
        while let Some(padding) = self.padding.clone().filter(|padding| padding.start < end) {
            let from = padding.start.max(self.at) - self.at;
            let to = padding.end.min(end) - self.at;
            let part = usize::try_from(from).ok().zip(usize::try_from(to).ok());
            let part = part
                .and_then(|(from, to)| bytes.get(from..to))
                .unwrap_or_default();
            let dirty = part.iter().position(|&byte| byte != 0);
            if let Some(at) = dirty {
                faults.push(self.at + from + at as u64, "padding between chunks is not zero");
            }
            if padding.end > end && dirty.is_none() {
                break;
            }
            // One fault for each stretch says enough.
            self.padding = self.gaps.as_mut().and_then(|gaps| gaps.next_padding(faults));
        }
        self.at = end;
    }

    pub(super) fn finish(self) -> Sha256 {
        self.hash
    }
}

/// Finds what lies between chunks: these lie in the order of their numbers.
struct Gaps<'a> {
    infos: &'a Units,
    number: u32,
    /// Where the chunks so far end.
    at: u64,
    /// The same in the uncompressed image.
    image_at: u64,
    /// The batch that the last chunk is in.
    batch: Option<Span>,
    end: u64,
    is_done: bool,
}

impl<'a> Gaps<'a> {
    fn new(infos: &'a Units, end: u64) -> Self {
        Gaps {
            infos,
            number: 0,
            at: 0,
            image_at: 0,
            batch: None,
            end,
            is_done: false,
        }
    }

    /// The next stretch of padding. All else that is wrong on the way there is a fault.
    fn next_padding(&mut self, faults: &mut Faults) -> Option<Range<u64>> {
        while let Some(stored) = self.infos.stored(self.number) {
            let number = self.number;
            self.number += 1;
            let stored = match stored {
                Ok(stored) => stored,
                Err(error) => {
                    faults.push(self.at, format!("chunk {number}: {error}"));
                    continue;
                }
            };
            let content_end = stored.content.offset.saturating_add(stored.content.len.into());
            if stored.content.offset < self.image_at {
                let what = format!("chunk {number} overlaps the one before it in the uncompressed image");
                faults.push(stored.bytes.offset, what);
            }
            self.image_at = self.image_at.max(content_end);
            if stored.is_shared && self.batch == Some(stored.bytes) {
                continue;
            }
            self.batch = stored.is_shared.then_some(stored.bytes);
            let (start, len) = (stored.bytes.offset, u64::from(stored.bytes.len));
            if start < self.at {
                faults.push(start, format!("chunk {number} overlaps the one before it"));
            }
            let gap = self.at..start;
            self.at = self.at.max(start.saturating_add(len));
            if let Some(padding) = padding(gap, faults) {
                return Some(padding);
            }
        }
        if self.is_done {
            return None;
        }
        self.is_done = true;
        if self.at > self.end {
            faults.push(self.end, "chunks reach beyond the end of image.blob");
        }
        padding(self.at..self.end, faults)
    }
}

/// Chunks of flat blobs are padded to blocks. Anything else between chunks is a fault.
fn padding(gap: Range<u64>, faults: &mut Faults) -> Option<Range<u64>> {
    if gap.is_empty() {
        return None;
    }
    let len = gap.end - gap.start;
    if len <= PADDING_MAX && gap.end.is_multiple_of(BLOCK) {
        return Some(gap);
    }
    faults.push(gap.start, format!("{len} bytes that belong to no chunk"));
    None
}
