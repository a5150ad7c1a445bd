//! Hashing the sections of a blob file as they pass, expanded.

use std::iter::Peekable;

use sha2::{Digest as _, Sha256};
use zstd::stream::raw::{DParameter, Decoder, Operation};

use super::Faults;
use crate::blob::meta::{META_MAX, uncompress};
use crate::chunk::{BlobIndex, ChunkRef, Compressor};
use crate::image::Image;

/// Most bytes that a section may expand to: as many as bootstraps have that readers take.
const SECTION_LEN_MAX: u64 = 2 << 30;
/// The largest window of a frame, as a power of two: what decoders take by default.
const WINDOW_LOG_MAX: u32 = 27;
/// Bytes expanded at a time: a block of zstd.
const STEP_LEN: usize = 128 << 10;

/// Expands and hashes a section.
pub(super) struct Expander(Result<Method, &'static str>);

enum Method {
    Plain(Hashing),
    Zstd(Frame),
    /// A block of lz4 cannot be expanded piece by piece.
    Lz4 {
        stored: Vec<u8>,
        len: u64,
    },
}

/// Hashes as many bytes as were announced.
struct Hashing {
    hash: Sha256,
    left: u64,
}

impl Hashing {
    fn update(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or(DAMAGED)?;
        self.hash.update(bytes);
        Ok(())
    }
}

/// One frame of zstd.
struct Frame {
    decoder: Decoder<'static>,
    room: Vec<u8>,
    is_ended: bool,
    hashing: Hashing,
}

/// What does not expand.
const DAMAGED: &str = "it does not decompress to the listed length";
const TOO_LARGE: &str = "it is listed with more bytes than are read";

impl Frame {
    fn new(hashing: Hashing) -> Result<Self, &'static str> {
        let mut decoder = Decoder::new().map_err(|_| DAMAGED)?;
        let window = DParameter::WindowLogMax(WINDOW_LOG_MAX);
        decoder.set_parameter(window).map_err(|_| DAMAGED)?;
        Ok(Frame {
            decoder,
            room: vec![0; STEP_LEN],
            is_ended: false,
            hashing,
        })
    }

    fn update(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        loop {
            if self.is_ended {
                // Nothing may follow the frame.
                return if bytes.is_empty() { Ok(()) } else { Err(DAMAGED) };
            }
            let done = self.decoder.run_on_buffers(bytes, &mut self.room);
            let done = done.map_err(|_| DAMAGED)?;
            self.hashing.update(&self.room[..done.bytes_written])?;
            bytes = &bytes[done.bytes_read..];
            self.is_ended = done.remaining == 0;
            let has_more = done.bytes_written == self.room.len();
            match bytes.is_empty() && !has_more && !self.is_ended {
                true => return Ok(()),
                false if done.bytes_read == 0 && done.bytes_written == 0 => return Err(DAMAGED),
                false => {}
            }
        }
    }
}

impl Expander {
    /// For a section that expands to `len` bytes.
    pub(super) fn new(compressor: Compressor, len: u64) -> Self {
        let hash = Sha256::new();
        let hashing = Hashing { hash, left: len };
        Expander(match compressor {
            _ if len > SECTION_LEN_MAX => Err(TOO_LARGE),
            Compressor::None => Ok(Method::Plain(hashing)),
            Compressor::Zstd => Frame::new(hashing).map(Method::Zstd),
            Compressor::Lz4Block if len > META_MAX => Err(TOO_LARGE),
            Compressor::Lz4Block => Ok(Method::Lz4 {
                stored: Vec::new(),
                len,
            }),
            Compressor::Gzip => Err("it is compressed with gzip"),
        })
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        let taken = match &mut self.0 {
            Ok(Method::Plain(hashing)) => hashing.update(bytes),
            Ok(Method::Zstd(frame)) => frame.update(bytes),
            Ok(Method::Lz4 { stored, len }) => {
                stored.extend_from_slice(bytes);
                // What compression does not shrink is not stored compressed.
                match stored.len() as u64 > *len {
                    true => Err(DAMAGED),
                    false => Ok(()),
                }
            }
            Err(_) => return,
        };
        if let Err(what) = taken {
            self.0 = Err(what);
        }
    }

    /// The digest of the expanded section, or why there is none.
    pub(super) fn finish(self) -> Result<[u8; 32], &'static str> {
        let hashing = match self.0? {
            Method::Plain(hashing) => hashing,
            Method::Zstd(frame) if frame.is_ended => frame.hashing,
            Method::Zstd(_) => return Err(DAMAGED),
            Method::Lz4 { stored, len } => {
                let content = uncompress(&stored, Compressor::Lz4Block, len).map_err(|_| DAMAGED)?;
                return Ok(Sha256::digest(&content).into());
            }
        };
        match hashing.left {
            0 => Ok(hashing.hash.finalize().into()),
            _ => Err(DAMAGED),
        }
    }
}

/// The digests of all chunks as they pass, held against those of the chunk table.
pub(super) struct Digests<'a> {
    hash: Sha256,
    /// Chunks that the table lists, by number.
    listed: Peekable<Box<dyn Iterator<Item = ChunkRef> + Send + 'a>>,
    number: u32,
    partial: Vec<u8>,
}

impl<'a> Digests<'a> {
    pub(super) fn new<B: AsRef<[u8]> + Sync>(image: &'a Image<B>, blob: BlobIndex) -> Self {
        let listed: Box<dyn Iterator<Item = ChunkRef> + Send + 'a> =
            Box::new(image.chunks(blob).filter_map(Result::ok));
        Digests {
            hash: Sha256::new(),
            listed: listed.peekable(),
            number: 0,
            partial: Vec::new(),
        }
    }

    pub(super) fn update(&mut self, start: u64, bytes: &[u8], faults: &mut Faults) {
        self.hash.update(bytes);
        let mut bytes = bytes;
        while !bytes.is_empty() {
            let len = bytes.len().min(32 - self.partial.len());
            self.partial.extend_from_slice(&bytes[..len]);
            bytes = &bytes[len..];
            if self.partial.len() < 32 {
                return;
            }
            let number = self.number;
            let listed = self.listed.next_if(|chunk| chunk.index == number);
            if listed.is_some_and(|chunk| chunk.digest.0[..] != self.partial[..]) {
                let what =
                    format!("chunk {number} has another digest in blob.digest than in the chunk table");
                faults.push(start + 32 * u64::from(number), what);
            }
            self.number += 1;
            self.partial.clear();
        }
    }

    pub(super) fn finish(self) -> [u8; 32] {
        self.hash.finalize().into()
    }
}
