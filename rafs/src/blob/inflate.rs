//! Inflating a piece from the middle of a gzip stream.

use std::cell::RefCell;

use flate2::{Decompress, FlushDecompress};

/// Most bytes of a window: deflate refers back no further.
const WINDOW_MAX: usize = 32 << 10;

/// Bytes before the content of a stored block.
const STORED_HEADER_LEN: usize = 5;

/// What comes before a piece: up to 32 KiB of output, and bits of the byte that the piece starts in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window<'a> {
    content: &'a [u8],
    byte: u8,
    bits: u8,
}

impl<'a> Window<'a> {
    /// A window; `None` if it is longer than deflate can use. The last `bits` bits of `byte`, the high ones, belong
    /// to the piece.
    pub(super) fn new(content: &'a [u8], byte: u8, bits: u8) -> Option<Self> {
        (content.len() <= WINDOW_MAX && bits < 8).then_some(Window { content, byte, bits })
    }
}

thread_local! {
    static INFLATE: RefCell<Decompress> = RefCell::new(Decompress::new(false));
}

/// Inflates raw deflate data until `out` is full; `None` if it is damaged or too short.
///
/// The window is fed as a stored block in front of the data, whose output is dropped, and data that starts inside a
/// byte is shifted to start at one: both need nothing but plain inflation.
pub(super) fn inflate(window: Window<'_>, stored: &[u8], out: &mut [u8]) -> Option<()> {
    INFLATE.with_borrow_mut(|inflate| {
        inflate.reset(false);
        if !window.content.is_empty() {
            let block = stored_block(window.content)?;
            run(inflate, &block, &mut vec![0; window.content.len()])?;
        }
        match window.bits {
            0 => run(inflate, stored, out),
            _ => run(inflate, &shift(window, stored), out),
        }
    })
}

/// Inflates until `out` is full.
fn run(inflate: &mut Decompress, stored: &[u8], out: &mut [u8]) -> Option<()> {
    let (mut read, mut written) = (0, 0);
    while written < out.len() {
        let before = (inflate.total_in(), inflate.total_out());
        inflate
            .decompress(&stored[read..], &mut out[written..], FlushDecompress::None)
            .ok()?;
        let step = (inflate.total_in() - before.0, inflate.total_out() - before.1);
        if step == (0, 0) {
            return None;
        }
        read += usize::try_from(step.0).ok()?;
        written += usize::try_from(step.1).ok()?;
    }
    Some(())
}

/// A deflate block, not the last, that stores `content`.
fn stored_block(content: &[u8]) -> Option<Vec<u8>> {
    let len = u16::try_from(content.len()).ok()?;
    let mut block = Vec::with_capacity(STORED_HEADER_LEN + content.len());
    block.push(0);
    block.extend_from_slice(&len.to_le_bytes());
    block.extend_from_slice(&(!len).to_le_bytes());
    block.extend_from_slice(content);
    Some(block)
}

/// Moves the data up by the bits that the byte before it holds. Deflate reads bytes from their low bits on.
fn shift(window: Window<'_>, stored: &[u8]) -> Vec<u8> {
    let mut carry = window.byte >> (8 - window.bits);
    let mut shifted = Vec::with_capacity(stored.len() + 1);
    for &byte in stored {
        shifted.push(carry | byte << window.bits);
        carry = byte >> (8 - window.bits);
    }
    shifted.push(carry);
    shifted
}
