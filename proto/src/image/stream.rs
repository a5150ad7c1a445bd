//! Streams of blob bytes: checked against a descriptor, or gathered in memory.

use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, TryStreamExt};
use oci_spec::image::Digest;

use super::Error;
use super::digest::Hasher;

/// A stream of blob bytes.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>;

struct Checked {
    inner: ByteStream,
    hasher: Hasher,
    seen: u64,
    len: u64,
    digest: Digest,
    what: String,
}

/// Passes `inner` on, and ends in an error when it has not exactly `len` bytes of the given digest.
///
/// Bytes are passed on before the digest is known: a consumer must not rely on them until the stream has ended.
pub(crate) fn checked(
    inner: ByteStream,
    what: String,
    len: u64,
    digest: &Digest,
) -> Result<ByteStream, Error> {
    let hasher = Hasher::for_digest(digest)?;
    let state = Checked {
        inner,
        hasher,
        seen: 0,
        len,
        digest: digest.clone(),
        what,
    };
    Ok(Box::pin(futures::stream::try_unfold(
        Some(state),
        |state| async {
            let Some(mut state) = state else { return Ok(None) };
            match state.inner.next().await.transpose()? {
                Some(bytes) => {
                    state.seen = state.seen.saturating_add(bytes.len() as u64);
                    if state.seen > state.len {
                        return Err(state.length_mismatch());
                    }
                    state.hasher.update(&bytes);
                    Ok(Some((bytes, Some(state))))
                }
                None => state.end().map(|()| None),
            }
        },
    )))
}

impl Checked {
    fn length_mismatch(self) -> Error {
        Error::LengthMismatch {
            what: self.what,
            expected: self.len,
            actual: self.seen,
        }
    }

    fn end(self) -> Result<(), Error> {
        if self.seen != self.len {
            return Err(self.length_mismatch());
        }
        let actual = self.hasher.finish();
        match actual == self.digest {
            true => Ok(()),
            false => Err(Error::DigestMismatch {
                what: self.what,
                expected: self.digest,
                actual,
            }),
        }
    }
}

/// Gathers a stream in memory; fails as soon as there are more than `len_max` bytes.
pub(crate) async fn gather(mut stream: ByteStream, what: &str, len_max: u64) -> Result<Bytes, Error> {
    let mut all = BytesMut::new();
    while let Some(bytes) = stream.try_next().await? {
        if (all.len() as u64).saturating_add(bytes.len() as u64) > len_max {
            return Err(Error::TooLarge {
                what: what.to_owned(),
                len_max,
            });
        }
        all.extend_from_slice(&bytes);
    }
    Ok(all.freeze())
}
