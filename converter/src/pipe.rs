//! The join between async network code and blocking readers: bytes through a bounded channel.

use std::io::{self, BufRead, Read};

use bytes::{Buf, Bytes};
use futures::StreamExt;
use proto::image::ByteStream;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::error::Error;

/// Pieces in flight between network and decompressor. A piece is what one read of a socket or file gives (at most
/// some hundred KiB), so this bounds a layer's share of memory to a few MiB and still hides jitter.
pub(crate) const PIECE_COUNT_MAX: usize = 16;

/// What goes through the channel. The end is said aloud: a sender that is merely gone has failed.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Bytes, in order.
    Data(Bytes),
    /// All bytes were sent and checked.
    End,
}

/// The blocking end.
#[derive(Debug)]
pub(crate) struct PipeReader {
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    is_ended: bool,
}

/// Makes a pipe.
pub(crate) fn pipe() -> (mpsc::Sender<Piece>, PipeReader) {
    let (sender, pieces) = mpsc::channel(PIECE_COUNT_MAX);
    (
        sender,
        PipeReader {
            pieces,
            current: Bytes::new(),
            is_ended: false,
        },
    )
}

/// Moves the bytes of a stream to a reader; stops when that has given up.
pub(crate) async fn pump(mut stream: ByteStream, pieces: mpsc::Sender<Piece>) -> Result<(), Error> {
    while let Some(bytes) = stream.next().await {
        if pieces.send(Piece::Data(bytes?)).await.is_err() {
            return Ok(());
        }
    }
    // The reader may be gone here too; it has said why.
    let _ = pieces.send(Piece::End).await;
    Ok(())
}

impl PipeReader {
    /// Throws the rest away, so that the sender can read and check its source to the end.
    pub(crate) fn drain(&mut self) {
        while let Some(Piece::Data(_)) = self.pieces.blocking_recv() {}
    }
}

impl BufRead for PipeReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() && !self.is_ended {
            match self.pieces.blocking_recv() {
                Some(Piece::Data(data)) => self.current = data,
                Some(Piece::End) => self.is_ended = true,
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::BrokenPipe,
                        "the source stopped early",
                    ));
                }
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, len: usize) {
        self.current.advance(len);
    }
}

impl Read for PipeReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, buf)
    }
}

/// [`Read::read`] of readers that are made to be read by their buffer.
pub(crate) fn read_buffered(input: &mut impl BufRead, buf: &mut [u8]) -> io::Result<usize> {
    let available = input.fill_buf()?;
    let len = available.len().min(buf.len());
    buf[..len].copy_from_slice(&available[..len]);
    input.consume(len);
    Ok(len)
}

/// Hashes and counts what is read through it.
#[derive(Debug)]
pub(crate) struct HashReader<R> {
    input: R,
    hash: Sha256,
    len: u64,
}

impl<R: Read> HashReader<R> {
    pub(crate) fn new(input: R) -> Self {
        HashReader {
            input,
            hash: Sha256::new(),
            len: 0,
        }
    }

    /// Reads to the end; gives length and sha256 of all that came through.
    pub(crate) fn finish(mut self) -> io::Result<(u64, [u8; 32])> {
        io::copy(&mut self, &mut io::sink())?;
        Ok((self.len, self.hash.finalize().into()))
    }
}

impl<R: Read> Read for HashReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.input.read(buf)?;
        self.hash.update(&buf[..len]);
        self.len += len as u64;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(pieces: Vec<Piece>) -> PipeReader {
        let (sender, reader) = pipe();
        pieces
            .into_iter()
            .for_each(|piece| sender.try_send(piece).unwrap());
        reader
    }

    #[test]
    fn pieces_become_one_stream() {
        let pieces = [&b"one "[..], b"", b"two"].map(|bytes| Piece::Data(Bytes::from_static(bytes)));
        let reader = filled(pieces.into_iter().chain([Piece::End]).collect());
        let mut hashed = HashReader::new(reader);
        let mut start = [0; 2];
        hashed.read_exact(&mut start).unwrap();
        let (len, hash) = hashed.finish().unwrap();
        assert_eq!((start, len, hash), (*b"on", 7, Sha256::digest(b"one two").into()));
    }

    #[test]
    fn a_sender_that_is_gone_is_no_end() {
        let mut reader = filled(vec![Piece::Data(Bytes::from_static(b"half"))]);
        let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn draining_ends_with_the_stream() {
        let mut reader = filled(vec![Piece::Data(Bytes::from_static(b"rest")), Piece::End]);
        reader.drain();
        assert!(matches!(
            reader.pieces.try_recv(),
            Err(mpsc::error::TryRecvError::Disconnected)
        ));
    }
}
