//! Layers as they are compressed, told by their first bytes: media types are wrong too often.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;

use crate::error::LayerError;

/// Bytes needed to tell the formats apart.
const MAGIC_LEN: usize = 6;

/// A layer's uncompressed bytes.
pub(crate) enum Decoder<R: BufRead> {
    /// Not compressed.
    Plain(Rewound<R>),
    /// One or more gzip members.
    Gzip(Box<MultiGzDecoder<Rewound<R>>>),
    /// One or more zstd frames.
    Zstd(Box<zstd::Decoder<'static, Rewound<R>>>),
}

impl<R: BufRead> Decoder<R> {
    /// Looks at the first bytes and picks the decoder.
    pub(crate) fn new(mut input: R) -> Result<Self, LayerError> {
        let mut magic = Vec::with_capacity(MAGIC_LEN);
        (&mut input)
            .take(MAGIC_LEN as u64)
            .read_to_end(&mut magic)
            .map_err(LayerError::Decompress)?;
        let format = magic.as_slice().try_into().map_or(Format::Plain, Format::of);
        let input = Rewound {
            start: io::Cursor::new(magic),
            rest: input,
        };
        match format {
            Format::Plain => Ok(Decoder::Plain(input)),
            Format::Gzip => Ok(Decoder::Gzip(Box::new(MultiGzDecoder::new(input)))),
            Format::Zstd => {
                let decoder = zstd::Decoder::with_buffer(input).map_err(LayerError::Decompress)?;
                Ok(Decoder::Zstd(Box::new(decoder)))
            }
            Format::Unsupported(name) => Err(LayerError::UnsupportedCompression(name)),
        }
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Decoder::Plain(input) => input.read(buf),
            Decoder::Gzip(decoder) => decoder.read(buf),
            Decoder::Zstd(decoder) => decoder.read(buf),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Plain,
    Gzip,
    Zstd,
    Unsupported(&'static str),
}

impl Format {
    fn of(magic: [u8; MAGIC_LEN]) -> Self {
        match magic {
            [0x1f, 0x8b, ..] => Format::Gzip,
            // The second is a skippable frame, as seekable and chunked zstd files begin with.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Format::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0] => Format::Unsupported("xz"),
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41] => Format::Unsupported("bzip2"),
            _ => Format::Plain,
        }
    }
}

/// An input whose first bytes were read ahead.
#[derive(Debug)]
pub(crate) struct Rewound<R> {
    start: io::Cursor<Vec<u8>>,
    rest: R,
}

impl<R: BufRead> BufRead for Rewound<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self.start.fill_buf()?.is_empty() {
            true => self.rest.fill_buf(),
            false => self.start.fill_buf(),
        }
    }

    fn consume(&mut self, len: usize) {
        match self.start.position() < self.start.get_ref().len() as u64 {
            true => self.start.consume(len),
            false => self.rest.consume(len),
        }
    }
}

impl<R: BufRead> Read for Rewound<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        crate::pipe::read_buffered(self, buf)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn decoded(input: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Decoder::new(input)
            .map_err(io::Error::other)?
            .read_to_end(&mut out)?;
        Ok(out)
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn all_formats_decode() {
        let content = b"some content ".repeat(1000);
        assert_eq!(decoded(&content).unwrap(), content);
        assert_eq!(
            decoded(&zstd::encode_all(&content[..], 3).unwrap()).unwrap(),
            content
        );
        assert_eq!(decoded(&gzip(&content)).unwrap(), content);
        assert_eq!(decoded(b"").unwrap(), b"");
        assert_eq!(decoded(b"abc").unwrap(), b"abc");
    }

    #[test]
    fn several_members_and_frames_are_one_stream() {
        assert_eq!(
            decoded(&[gzip(b"one "), gzip(b"two")].concat()).unwrap(),
            b"one two"
        );
        let frames = [
            zstd::encode_all(&b"one "[..], 3).unwrap(),
            zstd::encode_all(&b"two"[..], 3).unwrap(),
        ];
        assert_eq!(decoded(&frames.concat()).unwrap(), b"one two");
    }

    #[test]
    fn truncated_streams_fail() {
        let content = b"some content ".repeat(1000);
        for packed in [gzip(&content), zstd::encode_all(&content[..], 3).unwrap()] {
            assert!(decoded(&packed[..packed.len() - 5]).is_err());
        }
    }

    #[test]
    fn unsupported_formats_are_named() {
        let xz = b"\xfd7zXZ\0\0\0";
        assert!(matches!(
            Decoder::new(&xz[..]),
            Err(LayerError::UnsupportedCompression("xz"))
        ));
    }
}
