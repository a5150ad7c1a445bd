//! Which bytes to ask for: from the chunks a reader misses to few ranges of neighbouring chunks. Pure.
//!
//! A miss brings its neighbourhood along: the small files of a package lie together, and one request for a megabyte
//! costs hardly more than one for a kilobyte. The neighbourhood is the block of [`Limits::block_len`] stored bytes,
//! counted from the blob's first byte, in which a wanted chunk starts. So no part of a blob is asked for twice, and
//! reading everything in any order takes at most one request per block.

use std::collections::BTreeMap;
use std::ops::Range;

use rafs::Span;

/// How far ranges may go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Stored bytes of a neighbourhood.
    pub(crate) block_len: u64,
    /// Stored bytes that one request may fetch for nothing, so that it need not be two: all its gaps together.
    pub(crate) gap_max: u64,
    /// Stored bytes of a range. One chunk may be longer.
    pub(crate) range_max: u64,
}

/// A unit that a range brings: a chunk, or several that are stored as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Its number in the blob. Numbers follow the order of the stored bytes.
    pub(crate) index: u32,
    /// Where its stored bytes lie.
    pub(crate) span: Span,
}

/// One request: neighbouring units of one blob, in the order of their first bytes. Pieces of a gzip stream overlap: a
/// chunk is cut from one piece, whole, so pieces begin well before their neighbours end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FetchRange {
    /// The stored bytes, from the first to the last of any.
    pub(crate) bytes: Range<u64>,
    /// The chunks.
    pub(crate) chunks: Vec<Stored>,
}

/// Plans the requests for `wanted` chunks of one blob. `neighbour` tells where a chunk's stored bytes lie if it may
/// come along: if it exists, is absent and nobody fetches it already.
pub(crate) fn ranges(
    wanted: &[Stored],
    neighbour: impl Fn(u32) -> Option<Span>,
    limits: &Limits,
) -> Vec<FetchRange> {
    let mut chunks: BTreeMap<(u64, u32), Stored> = BTreeMap::new();
    for chunk in wanted {
        chunks.insert((chunk.span.offset, chunk.index), *chunk);
    }
    for chunk in wanted {
        let block = block_of(chunk.span.offset, limits);
        let forward = (chunk.index.saturating_add(1)..=u32::MAX).map_while(|index| at(index, &neighbour));
        let backward = (0..chunk.index).rev().map_while(|index| at(index, &neighbour));
        grow(chunk, &block, forward, &mut chunks);
        grow(chunk, &block, backward, &mut chunks);
    }
    join(chunks.into_values(), limits)
}

fn at(index: u32, neighbour: impl Fn(u32) -> Option<Span>) -> Option<Stored> {
    neighbour(index).map(|span| Stored { index, span })
}

fn block_of(offset: u64, limits: &Limits) -> Range<u64> {
    let start = offset - offset % limits.block_len;
    start..start.saturating_add(limits.block_len)
}

/// Takes neighbours while they start in the block. Chunk numbers follow stored order in every sane blob; where they
/// do not, growth ends: that costs requests, nothing else.
fn grow(
    from: &Stored,
    block: &Range<u64>,
    neighbours: impl Iterator<Item = Stored>,
    chunks: &mut BTreeMap<(u64, u32), Stored>,
) {
    let mut last = *from;
    for next in neighbours {
        let is_in_order = (next.index > last.index) == (next.span.offset >= last.span.offset);
        if !block.contains(&next.span.offset) || !is_in_order {
            break;
        }
        // What an earlier wanted chunk of the same block brought need not be walked again.
        if chunks.insert((next.span.offset, next.index), next).is_some() {
            break;
        }
        last = next;
    }
}

/// Cuts chunks in stored order into ranges.
pub(crate) fn join(chunks: impl Iterator<Item = Stored>, limits: &Limits) -> Vec<FetchRange> {
    let mut ranges: Vec<FetchRange> = Vec::new();
    // Of the last range.
    let mut skipped = 0;
    for chunk in chunks {
        let bytes = chunk.span.offset..chunk.span.offset.saturating_add(u64::from(chunk.span.len));
        match ranges.last_mut() {
            Some(range)
                if bytes.start >= range.bytes.start
                    && gap(range, &bytes) <= limits.gap_max - skipped
                    && bytes.end - range.bytes.start <= limits.range_max =>
            {
                skipped += gap(range, &bytes);
                range.bytes.end = range.bytes.end.max(bytes.end);
                range.chunks.push(chunk);
            }
            _ => {
                skipped = 0;
                ranges.push(FetchRange {
                    bytes,
                    chunks: vec![chunk],
                });
            }
        }
    }
    ranges
}

/// The stored bytes between a range and what comes next. None where they overlap.
fn gap(range: &FetchRange, next: &Range<u64>) -> u64 {
    next.start.saturating_sub(range.bytes.end)
}

#[cfg(test)]
mod tests;
