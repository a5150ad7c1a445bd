//! Sparse members: where the stored runs lie in the file. Old GNU headers and PAX versions 0.0, 0.1 and 1.0.

use super::TarError;
use super::header::{BLOCK_LEN, Header, parse_number};
use super::pax::decimal;

/// More runs than any real file has (a run is at least one disk block), and a bound on memory: 16 MiB.
const SEGMENT_COUNT_MAX: usize = 1 << 20;

/// Offset and length pairs in an old GNU header, and in each block that continues it.
const HEADER_PAIRS: std::ops::Range<usize> = 386..482;
const HEADER_IS_EXTENDED: usize = 482;
const HEADER_REAL_SIZE: std::ops::Range<usize> = 483..495;
const BLOCK_PAIRS: std::ops::Range<usize> = 0..504;
const BLOCK_IS_EXTENDED: usize = 504;
const PAIR_LEN: usize = 24;

/// A run of stored bytes at its place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) offset: u64,
    pub(super) len: u64,
}

/// All runs of a file, and its size with holes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Map {
    size: u64,
    segments: Vec<Segment>,
}

impl Map {
    /// Reads the pairs of an old GNU header; says whether a block with more pairs follows.
    pub(super) fn from_header(header: &Header) -> Result<(Self, bool), TarError> {
        let size = header.unsigned(HEADER_REAL_SIZE, "sparse size is not a number")?;
        let mut map = Map {
            size,
            segments: Vec::new(),
        };
        map.push_pairs(&header.block[HEADER_PAIRS], header.offset)?;
        Ok((map, header.block[HEADER_IS_EXTENDED] != 0))
    }

    /// Reads one continuation block; says whether another follows.
    pub(super) fn extend(&mut self, block: &[u8; BLOCK_LEN], offset: u64) -> Result<bool, TarError> {
        self.push_pairs(&block[BLOCK_PAIRS], offset)?;
        Ok(block[BLOCK_IS_EXTENDED] != 0)
    }

    fn push_pairs(&mut self, pairs: &[u8], offset: u64) -> Result<(), TarError> {
        let corrupt = || TarError::Corrupt {
            what: "sparse map is malformed",
            offset,
        };
        for pair in pairs.chunks_exact(PAIR_LEN) {
            if pair[0] == 0 {
                break;
            }
            let number = |field| {
                parse_number(field)
                    .and_then(|value| u64::try_from(value).ok())
                    .ok_or_else(corrupt)
            };
            self.segments.push(Segment {
                offset: number(&pair[..12])?,
                len: number(&pair[12..])?,
            });
        }
        match self.segments.len() > SEGMENT_COUNT_MAX {
            true => Err(corrupt()),
            false => Ok(()),
        }
    }

    /// Alternating offsets and lengths.
    pub(super) fn from_numbers(size: u64, numbers: &[u64]) -> Option<Self> {
        let pairs = numbers.chunks_exact(2);
        if !pairs.remainder().is_empty() {
            return None;
        }
        Some(Map {
            size,
            segments: pairs
                .map(|pair| Segment {
                    offset: pair[0],
                    len: pair[1],
                })
                .collect(),
        })
    }

    /// PAX 1.0: decimal lines (a count, then the pairs) padded to whole blocks, which `next_block` yields.
    pub(super) fn from_content(
        size: u64,
        offset: u64,
        mut next_block: impl FnMut() -> Result<[u8; BLOCK_LEN], TarError>,
    ) -> Result<Self, TarError> {
        let corrupt = || TarError::Corrupt {
            what: "sparse map is malformed",
            offset,
        };
        let (mut line, mut numbers, mut expected) = (Vec::new(), Vec::new(), None);
        loop {
            for byte in next_block()? {
                if byte != b'\n' {
                    // Twenty digits hold any u64.
                    if line.len() == 20 {
                        return Err(corrupt());
                    }
                    line.push(byte);
                    continue;
                }
                let number = decimal(&line).ok_or_else(corrupt)?;
                line.clear();
                match expected {
                    None => {
                        let count = usize::try_from(number)
                            .ok()
                            .filter(|count| *count <= SEGMENT_COUNT_MAX);
                        expected = Some(2 * count.ok_or_else(corrupt)?);
                    }
                    Some(_) => numbers.push(number),
                }
                if expected == Some(numbers.len()) {
                    return Map::from_numbers(size, &numbers).ok_or_else(corrupt);
                }
            }
        }
    }

    /// Checks order and bounds and that exactly `stored` bytes are described. Gives size and non-empty runs.
    pub(super) fn check(self, stored: u64, offset: u64) -> Result<(u64, Vec<Segment>), TarError> {
        let mut end = 0;
        let mut total = 0u64;
        for segment in &self.segments {
            let next = segment
                .offset
                .checked_add(segment.len)
                .filter(|next| *next <= self.size);
            total = total.saturating_add(segment.len);
            match next {
                Some(next) if segment.offset >= end => end = next,
                _ => {
                    return Err(TarError::Corrupt {
                        what: "sparse runs overlap or lie outside the file",
                        offset,
                    });
                }
            }
        }
        if total != stored {
            return Err(TarError::Corrupt {
                what: "sparse map does not describe the stored bytes",
                offset,
            });
        }
        Ok((
            self.size,
            self.segments
                .into_iter()
                .filter(|segment| segment.len > 0)
                .collect(),
        ))
    }
}
