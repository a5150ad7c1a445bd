//! What an answer to a read is made of.

use rafs::image::Extent;

/// Bytes that follow each other in an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Run {
    /// A part of a chunk.
    Chunk(Extent),
    /// So many zeros, where no chunk lies.
    Zeros(u32),
}

impl Run {
    /// The part of a chunk, if it is one.
    pub(crate) fn extent(&self) -> Option<&Extent> {
        match self {
            Run::Chunk(extent) => Some(extent),
            Run::Zeros(_) => None,
        }
    }

    /// Its length in bytes.
    pub(crate) fn len(&self) -> u32 {
        match self {
            Run::Chunk(extent) => extent.len,
            Run::Zeros(len) => *len,
        }
    }
}
