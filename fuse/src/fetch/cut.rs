//! Cuts a stream of stored bytes into the units of a range, each as soon as it is whole.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use super::plan::{FetchRange, Stored};

/// The chunks of a range that are still to come, and the bytes that have come.
pub(crate) struct Cutter {
    chunks: VecDeque<Stored>,
    position: u64,
    buffer: BytesMut,
}

impl Cutter {
    /// Starts at the first byte of `range`.
    pub(crate) fn new(range: &FetchRange) -> Self {
        Cutter {
            chunks: range.chunks.iter().copied().collect(),
            position: range.bytes.start,
            buffer: BytesMut::new(),
        }
    }

    /// Takes the next bytes of the stream.
    pub(crate) fn push(&mut self, bytes: &Bytes) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Hands out the next chunk, if all of it has come.
    pub(crate) fn pop(&mut self) -> Option<(Stored, Bytes)> {
        let chunk = *self.chunks.front()?;
        let gap = usize::try_from(chunk.span.offset - self.position).unwrap_or(usize::MAX);
        let skipped = gap.min(self.buffer.len());
        self.buffer.advance(skipped);
        self.position += skipped as u64;
        let len = chunk.span.len as usize;
        if skipped < gap || self.buffer.len() < len {
            return None;
        }
        self.chunks.pop_front();
        let end = self.position + len as u64;
        if self.chunks.front().is_some_and(|next| next.span.offset < end) {
            // The next one begins in this one, so the bytes are needed once more.
            return Some((chunk, Bytes::copy_from_slice(&self.buffer[..len])));
        }
        self.position = end;
        Some((chunk, self.buffer.split_to(len).freeze()))
    }

    /// Whether all chunks were handed out.
    pub(crate) fn is_done(&self) -> bool {
        self.chunks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rafs::Span;

    use super::*;

    proptest! {
        #[test]
        fn however_the_stream_is_sliced_the_chunks_are_the_same(
            layout in proptest::collection::vec((-60_i64..20, 0_u32..90), 1..20),
            start in 0_u64..1000,
            slices in proptest::collection::vec(1_usize..60, 1..200),
        ) {
            let (mut offset, mut end) = (start, start);
            let mut chunks = Vec::new();
            for (index, (gap, len)) in layout.iter().enumerate() {
                if index > 0 {
                    // Never before the one before it.
                    offset = offset.max(end.saturating_add_signed(*gap));
                }
                chunks.push(Stored { index: index as u32, span: Span { offset, len: *len } });
                end = end.max(offset + u64::from(*len));
            }
            let range = FetchRange { bytes: start..end, chunks: chunks.clone() };
            let stream: Vec<u8> = (start..end).map(|byte| (byte % 251) as u8).collect();

            let mut cutter = Cutter::new(&range);
            let mut rest = Bytes::from(stream);
            let mut came = Vec::new();
            for len in slices.into_iter().cycle() {
                while let Some(chunk) = cutter.pop() {
                    came.push(chunk);
                }
                if rest.is_empty() {
                    break;
                }
                cutter.push(&rest.split_to(len.min(rest.len())));
            }
            prop_assert!(cutter.is_done());
            prop_assert_eq!(came.len(), chunks.len());
            for ((stored, bytes), expected) in came.iter().zip(&chunks) {
                prop_assert_eq!(stored, expected);
                let span = expected.span;
                let content: Vec<u8> =
                    (span.offset..span.offset + u64::from(span.len)).map(|byte| (byte % 251) as u8).collect();
                prop_assert_eq!(&bytes[..], &content[..]);
            }
        }
    }

    #[test]
    fn a_body_that_ends_early_leaves_chunks_undone_and_a_longer_one_is_ignored() {
        let chunk = Stored {
            index: 0,
            span: Span { offset: 5, len: 4 },
        };
        let range = FetchRange {
            bytes: 5..9,
            chunks: vec![chunk],
        };
        let mut cutter = Cutter::new(&range);
        cutter.push(&Bytes::from_static(b"abc"));
        assert!(cutter.pop().is_none());
        assert!(!cutter.is_done());
        cutter.push(&Bytes::from_static(b"defgh"));
        assert_eq!(cutter.pop(), Some((chunk, Bytes::from_static(b"abcd"))));
        assert!(cutter.pop().is_none());
        assert!(cutter.is_done());
    }
}
