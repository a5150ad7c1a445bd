//! Small chunks that are compressed as one.

use super::codec::shrink;
use super::{Compressor, Digest};

/// Small chunks gathered for one compressed frame.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    members: Vec<Member>,
    content: Vec<u8>,
}

/// One chunk of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Digest of the content.
    pub digest: Digest,
    /// Length of the content in bytes.
    pub len: u32,
}

/// A batch ready to be appended to a blob.
#[derive(Clone, Debug)]
pub struct EncodedBatch {
    /// Its chunks, in the order in which their contents lie in the batch.
    pub members: Vec<Member>,
    /// The stored bytes.
    pub data: Vec<u8>,
    /// Bytes of all contents. Equal to the length of `data` if and only if that is the contents themselves.
    pub len: u32,
}

impl Batch {
    /// Adds the content of a chunk. All contents together are at most a chunk: 16 MiB.
    pub fn push(&mut self, digest: Digest, content: &[u8]) {
        let len = u32::try_from(content.len()).expect("a chunk is at most 16 MiB");
        self.members.push(Member { digest, len });
        self.content.extend_from_slice(content);
    }

    /// Bytes of all contents.
    pub fn len(&self) -> usize {
        self.content.len()
    }

    /// Whether there is no content.
    pub fn is_empty(&self) -> bool {
        self.content.is_empty()
    }

    /// Compresses the contents as one; stored raw where that does not shrink them.
    pub fn encode(self, compressor: Compressor, level: i32) -> EncodedBatch {
        let len = u32::try_from(self.content.len()).expect("a batch is at most a chunk");
        EncodedBatch {
            members: self.members,
            data: shrink(&self.content, compressor, level).unwrap_or(self.content),
            len,
        }
    }
}
