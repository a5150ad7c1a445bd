//! Blob uploads: in one piece when small, else in chunks.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use oci_spec::image::Digest;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, LOCATION, RANGE};
use reqwest::{Method, Response, Url};

use super::Repository;
use super::auth::Access;
use super::client::{Patience, Request, Target, UPLOAD_TIMEOUT};
use super::range::upload_end;
use crate::image::Error;
use crate::image::digest::Hasher;

/// Bytes gathered before they are sent: above the 5 MiB that registries on object stores want as the least, and few
/// enough to keep in memory for several uploads at a time, to be sent again when a connection breaks.
const CHUNK_LEN: usize = 16 << 20;
/// How often one chunk is sent.
const CHUNK_TRY_COUNT_MAX: u32 = 3;
/// Pause before a small blob is sent again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
const OCTETS: &str = "application/octet-stream";

/// A blob on its way into a repository.
///
/// Dropped unfinished, it stays invisible; what was sent of it is removed by [`Upload::abort`], or by the registry's
/// own expiry of uploads.
pub(crate) struct Upload {
    repository: Repository,
    hasher: Hasher,
    chunk: BytesMut,
    /// Where the next bytes go; `None` before the first are sent.
    location: Option<Url>,
    /// Bytes the registry has.
    sent: u64,
}

impl Upload {
    pub(super) fn new(repository: Repository) -> Self {
        Self {
            repository,
            hasher: Hasher::sha256(),
            chunk: BytesMut::new(),
            location: None,
            sent: 0,
        }
    }

    fn what(&self) -> String {
        format!("blob upload to {}", self.repository.host())
    }

    /// Appends bytes.
    pub(crate) async fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        self.hasher.update(bytes);
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_LEN - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            bytes = later;
            if self.chunk.len() == CHUNK_LEN {
                self.send_chunk().await?;
            }
        }
        Ok(())
    }

    /// Ends the blob, which must have the digest `expected`; nothing is sent when it is small and there already.
    pub(crate) async fn finish(mut self, expected: &Digest) -> Result<(), Error> {
        let actual = self.hasher.clone().finish();
        if actual != *expected {
            let error = Error::DigestMismatch {
                what: self.what(),
                expected: expected.clone(),
                actual,
            };
            self.abort().await;
            return Err(error);
        }
        if self.location.is_none() {
            return self.finish_small(expected).await;
        }
        // As a chunk of its own, so that what closes the upload carries nothing and may be repeated.
        if !self.chunk.is_empty() {
            self.send_chunk().await?;
        }
        match self.location.take() {
            Some(location) => self.close(location, Bytes::new(), expected).await,
            None => Err(Error::invalid(
                self.what(),
                "the registry does not say where to go on",
            )),
        }
    }

    /// Sends a blob of which nothing was sent yet, unless it is there.
    async fn finish_small(&mut self, expected: &Digest) -> Result<(), Error> {
        if self.repository.has_blob(expected).await? {
            return Ok(());
        }
        let blob = std::mem::take(&mut self.chunk).freeze();
        let mut tries_left = CHUNK_TRY_COUNT_MAX;
        loop {
            tries_left -= 1;
            let location = self.begin().await?;
            match self.close(location, blob.clone(), expected).await {
                Err(error) if tries_left > 0 && error.is_retryable() => {
                    tracing::debug!(%error, "small blob is sent again");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                result => return result,
            }
        }
    }

    /// Sends the last bytes and the digest.
    async fn close(&self, mut location: Url, rest: Bytes, expected: &Digest) -> Result<(), Error> {
        location
            .query_pairs_mut()
            .append_pair("digest", expected.as_ref());
        let repeatable = rest.is_empty();
        let mut request = self
            .request(Method::PUT, location, Some(rest))
            .header(CONTENT_TYPE, OCTETS)?;
        request.repeatable = repeatable;
        match self.repository.client().send(&request, Patience::Stubborn).await {
            Ok(_) => Ok(()),
            // The answer may be lost when the blob is not.
            Err(_) if matches!(self.repository.has_blob(expected).await, Ok(true)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Tells the registry to forget what was sent. Failures do not matter: uploads expire.
    pub(crate) async fn abort(mut self) {
        if let Some(location) = self.location.take() {
            let request = self.request(Method::DELETE, location, None);
            if let Err(error) = self.repository.client().send(&request, Patience::Full).await {
                tracing::debug!(%error, "upload could not be withdrawn");
            }
        }
    }

    fn request(&self, method: Method, target: Url, body: Option<Bytes>) -> Request {
        Request {
            method,
            target: Target::Url(target),
            access: Access::Push,
            headers: HeaderMap::new(),
            body,
            repeatable: false,
            timeout: UPLOAD_TIMEOUT,
            what: self.what(),
        }
    }

    async fn begin(&self) -> Result<Url, Error> {
        let path = self.repository.path("blobs", "uploads/");
        let mut request = Request::new(Method::POST, path, Access::Push, self.what());
        // An empty body makes clients say so; some proxies refuse a POST without a length.
        request.body = Some(Bytes::new());
        let response = self
            .repository
            .client()
            .send(&request, Patience::Stubborn)
            .await?;
        self.location_of(&response)
    }

    /// Where an answer says to go on.
    fn location_of(&self, response: &Response) -> Result<Url, Error> {
        let location = response
            .headers()
            .get(LOCATION)
            .and_then(|value| value.to_str().ok());
        let base = response.url();
        let url = location.and_then(|location| base.join(location).ok());
        let url =
            url.ok_or_else(|| Error::invalid(self.what(), "the registry does not say where to go on"))?;
        match base.scheme() == "https" && url.scheme() != "https" {
            true => Err(Error::invalid(
                self.what(),
                "the registry wants the blob over plain HTTP",
            )),
            false => Ok(url),
        }
    }

    async fn send_chunk(&mut self) -> Result<(), Error> {
        let chunk = std::mem::take(&mut self.chunk).freeze();
        let mut location = match self.location.take() {
            Some(location) => location,
            None => self.begin().await?,
        };
        let end = self.sent + chunk.len() as u64;
        let mut tries_left = CHUNK_TRY_COUNT_MAX;
        loop {
            tries_left -= 1;
            let request = self.request(Method::PATCH, location.clone(), Some(chunk.clone()));
            let request = request.header(CONTENT_TYPE, OCTETS)?;
            let request = request.header(CONTENT_RANGE, &chunk_range(self.sent, chunk.len()))?;
            let error = match self.repository.client().send(&request, Patience::Stubborn).await {
                Ok(response) => {
                    self.location = Some(self.location_of(&response)?);
                    self.sent = end;
                    return Ok(());
                }
                Err(error) => error,
            };
            // Whether the chunk arrived is not known; the registry tells how far it got.
            let reached = match tries_left > 0 && error.is_retryable() {
                true => self.reached(&location).await,
                false => None,
            };
            match reached {
                Some((url, reached)) if reached == end => {
                    (self.location, self.sent) = (Some(url), end);
                    return Ok(());
                }
                Some((url, reached)) if reached == self.sent => location = url,
                _ => {
                    self.location = Some(location);
                    return Err(error);
                }
            }
        }
    }

    /// How many bytes of this upload the registry has, and where to go on.
    async fn reached(&self, location: &Url) -> Option<(Url, u64)> {
        let mut request = self.request(Method::GET, location.clone(), None);
        request.repeatable = true;
        let response = self
            .repository
            .client()
            .send(&request, Patience::Stubborn)
            .await
            .ok()?;
        let end = response
            .headers()
            .get(RANGE)
            .and_then(|value| upload_end(value.to_str().ok()?));
        // Nothing yet is told as `0-0` by some and not at all by others.
        let end = if self.sent == 0 && end.is_none_or(|end| end <= 1) {
            0
        } else {
            end?
        };
        Some((self.location_of(&response).ok()?, end))
    }
}

/// `Content-Range` of a chunk, which the distribution specification writes without unit and total.
fn chunk_range(start: u64, len: usize) -> String {
    format!("{start}-{}", (start + len as u64).saturating_sub(1))
}
