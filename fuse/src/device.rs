//! A blob as a device: which chunks lie where in its uncompressed image. Pure.
//!
//! The kernel's EROFS finds the bytes of files at offsets of a device, whatever the chunk table says, so a device is
//! laid out by the table alone: what no chunk of the image covers is zeros, whichever image has something there.

use std::ops::Range;

use rafs::image::Extent;
use rafs::{BlobIndex, ChunkRef, Image};

use crate::fetch::Run;

/// Why a blob cannot be a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Two chunks claim the same bytes.
    #[error("chunks {0} and {1} of blob {2} overlap")]
    Overlap(u32, u32, u16),
    /// A chunk cannot be read.
    #[error(transparent)]
    Image(#[from] rafs::Error),
}

/// The order of a blob's chunks in its uncompressed image.
#[derive(Debug)]
enum Order {
    /// The chunk table lists all chunks, and they lie in the order of their numbers: so many of them.
    Numbers(u32),
    /// Numbers of the chunks, as they lie.
    Sorted(Box<[u32]>),
}

/// A blob as a device.
#[derive(Debug)]
pub(crate) struct Device {
    blob: BlobIndex,
    len: u64,
    order: Order,
}

impl Device {
    /// Lays out a blob. Costs 4 bytes a chunk, or nothing where numbers ascend with offsets and none is left out.
    pub(crate) fn new<B: AsRef<[u8]>>(image: &Image<B>, blob: BlobIndex) -> Result<Self, Refusal> {
        let info = image.blobs().get(usize::from(blob.0));
        let (len, chunk_count) = info.map_or((0, 0), |info| (info.uncompressed_size, info.chunk_count));
        let mut places = image
            .chunks(blob)
            .map(|chunk| chunk.map(|chunk| (chunk.uncompressed, chunk.index)))
            .collect::<Result<Vec<_>, _>>()?;
        let is_sorted = places.is_sorted_by_key(|(place, _)| place.offset);
        if !is_sorted {
            places.sort_unstable_by_key(|(place, index)| (place.offset, *index));
        }
        let overlap = places
            .windows(2)
            .find(|pair| pair[0].0.offset + u64::from(pair[0].0.len) > pair[1].0.offset);
        if let Some(pair) = overlap {
            return Err(Refusal::Overlap(pair[0].1, pair[1].1, blob.0));
        }
        let order = if is_sorted && places.len() == chunk_count as usize {
            Order::Numbers(chunk_count)
        } else {
            Order::Sorted(places.iter().map(|(_, index)| *index).collect())
        };
        Ok(Device { blob, len, order })
    }

    /// Bytes of it.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Whether the image lists every chunk that the blob has.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.order, Order::Numbers(_))
    }

    /// What lies in a range, cut to the device.
    pub(crate) fn runs<B: AsRef<[u8]>>(
        &self,
        image: &Image<B>,
        range: Range<u64>,
    ) -> Result<Vec<Run>, rafs::Error> {
        let end = range.end.min(self.len);
        let mut at = range.start.min(end);
        let mut runs = Vec::new();
        let mut place = self.first_ending_after(image, at)?;
        while at < end {
            let Some(chunk) = self.chunk(image, place)?.filter(|chunk| start_of(chunk) < end) else {
                push_zeros(&mut runs, end - at);
                break;
            };
            push_zeros(&mut runs, start_of(&chunk).saturating_sub(at));
            at = at.max(start_of(&chunk));
            let until = end.min(end_of(&chunk));
            runs.push(Run::Chunk(Extent {
                chunk,
                // Both are at most the length of a chunk, which is a `u32`.
                skip: (at - start_of(&chunk)) as u32,
                len: (until - at) as u32,
            }));
            at = until;
            place += 1;
        }
        Ok(runs)
    }

    fn count(&self) -> usize {
        match &self.order {
            Order::Numbers(count) => *count as usize,
            Order::Sorted(numbers) => numbers.len(),
        }
    }

    fn chunk<B: AsRef<[u8]>>(&self, image: &Image<B>, place: usize) -> Result<Option<ChunkRef>, rafs::Error> {
        let number = match &self.order {
            Order::Numbers(count) => u32::try_from(place).ok().filter(|number| number < count),
            Order::Sorted(numbers) => numbers.get(place).copied(),
        };
        number.map(|number| image.chunk(self.blob, number)).transpose()
    }

    fn first_ending_after<B: AsRef<[u8]>>(
        &self,
        image: &Image<B>,
        offset: u64,
    ) -> Result<usize, rafs::Error> {
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = low + (high - low) / 2;
            let is_before = self
                .chunk(image, middle)?
                .is_some_and(|chunk| end_of(&chunk) <= offset);
            match is_before {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        Ok(low)
    }
}

fn start_of(chunk: &ChunkRef) -> u64 {
    chunk.uncompressed.offset
}

fn end_of(chunk: &ChunkRef) -> u64 {
    chunk.uncompressed.offset + u64::from(chunk.uncompressed.len)
}

/// Adds zeros, in runs of a length that can be named.
fn push_zeros(runs: &mut Vec<Run>, mut len: u64) {
    while len > 0 {
        let piece = u32::try_from(len).unwrap_or(u32::MAX);
        runs.push(Run::Zeros(piece));
        len -= u64::from(piece);
    }
}

#[cfg(test)]
mod tests;
