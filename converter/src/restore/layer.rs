//! A layer on its way out: hashed, compressed, hashed again, cut into pieces.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::GzEncoder;
use oci_spec::image::Digest;
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, oneshot};

/// Bytes of a piece: large enough that few are passed on.
const PIECE_LEN: usize = 256 << 10;

/// How the layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerCompression {
    /// Not at all.
    None,
    /// Gzip, which everything reads.
    Gzip,
    /// Zstd at a level.
    Zstd(i32),
}

impl LayerCompression {
    pub(super) fn media_type(self) -> &'static str {
        match self {
            LayerCompression::None => "application/vnd.oci.image.layer.v1.tar",
            LayerCompression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            LayerCompression::Zstd(_) => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

/// A layer that was written.
#[derive(Clone, Debug)]
pub(crate) struct WrittenLayer {
    /// sha256 of the uncompressed bytes, as configs have it.
    pub(crate) diff_id: String,
    /// sha256 of the bytes.
    pub(crate) digest: Digest,
    /// How many bytes.
    pub(crate) len: u64,
}

/// Takes an uncompressed layer.
pub(crate) struct LayerWriter {
    encoder: Encoder,
    hash: Sha256,
    done: oneshot::Sender<WrittenLayer>,
}

enum Encoder {
    None(Pieces),
    Gzip(GzEncoder<Pieces>),
    Zstd(zstd::Encoder<'static, Pieces>),
}

impl LayerWriter {
    /// Ends the layer.
    pub(crate) fn finish(self) -> io::Result<()> {
        let pieces = match self.encoder {
            Encoder::None(pieces) => pieces,
            Encoder::Gzip(encoder) => encoder.finish()?,
            Encoder::Zstd(encoder) => encoder.finish()?,
        };
        let (hash, len) = pieces.finish()?;
        let sha256 = |hash: [u8; 32]| format!("sha256:{}", hex::encode(hash));
        let digest = sha256(hash);
        let layer = WrittenLayer {
            diff_id: sha256(self.hash.finalize().into()),
            digest: digest.parse().expect("64 hex digits behind the algorithm's name"),
            len,
        };
        // Whoever waited for it may have been given up.
        let _ = self.done.send(layer);
        Ok(())
    }
}

/// A layer that was not started.
pub(crate) struct Opening {
    compression: LayerCompression,
    output: mpsc::Sender<Bytes>,
    done: oneshot::Sender<WrittenLayer>,
}

impl Opening {
    /// Prepares a layer whose bytes go to `output`. What they are is told when all are written.
    pub(super) fn to(
        compression: LayerCompression,
        output: mpsc::Sender<Bytes>,
    ) -> (Self, oneshot::Receiver<WrittenLayer>) {
        let (done, written) = oneshot::channel();
        let opening = Opening {
            compression,
            output,
            done,
        };
        (opening, written)
    }

    /// Starts the layer.
    pub(crate) fn open(self) -> io::Result<LayerWriter> {
        let pieces = Pieces {
            output: self.output,
            piece: Vec::with_capacity(PIECE_LEN),
            hash: Sha256::new(),
            len: 0,
        };
        let encoder = match self.compression {
            LayerCompression::None => Encoder::None(pieces),
            LayerCompression::Gzip => Encoder::Gzip(GzEncoder::new(pieces, flate2::Compression::default())),
            LayerCompression::Zstd(level) => Encoder::Zstd(zstd::Encoder::new(pieces, level)?),
        };
        Ok(LayerWriter {
            encoder,
            hash: Sha256::new(),
            done: self.done,
        })
    }
}

impl Write for LayerWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = match &mut self.encoder {
            Encoder::None(pieces) => pieces.write(bytes)?,
            Encoder::Gzip(encoder) => encoder.write(bytes)?,
            Encoder::Zstd(encoder) => encoder.write(bytes)?,
        };
        self.hash.update(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Cuts a stream into pieces and passes them on.
struct Pieces {
    output: mpsc::Sender<Bytes>,
    piece: Vec<u8>,
    hash: Sha256,
    len: u64,
}

impl Pieces {
    fn pass_on(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_LEN));
        self.output
            .blocking_send(piece.into())
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the target takes no more"))
    }

    fn finish(mut self) -> io::Result<([u8; 32], u64)> {
        if !self.piece.is_empty() {
            self.pass_on()?;
        }
        Ok((self.hash.finalize().into(), self.len))
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(PIECE_LEN - self.piece.len());
        self.piece.extend_from_slice(&bytes[..len]);
        self.hash.update(&bytes[..len]);
        self.len += len as u64;
        if self.piece.len() == PIECE_LEN {
            self.pass_on()?;
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
