//! Blob bodies that go on where a connection broke.

use std::ops::Range;
use std::pin::Pin;

use bytes::{Buf, Bytes};
use futures::{Stream, StreamExt};
use oci_spec::image::Digest;
use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode};

use super::Repository;
use super::client::{SHORT_TIMEOUT, STALL_TIMEOUT, network, stalled};
use super::mirrors::Answer;
use super::range::ContentRange;
use crate::image::{ByteStream, Error};

/// How often a body is asked for again from where it broke, without much progress between.
const RESUME_COUNT_MAX: u32 = 2;
/// Progress after which a body may break [`RESUME_COUNT_MAX`] times again: one slow second of a poor line.
const RESUME_PROGRESS_LEN: u64 = 1 << 20;
/// Bytes before a range that are read over when a registry sends the whole blob instead; more would be a waste that
/// nobody notices.
const SKIP_LEN_MAX: u64 = 1 << 20;

/// How much of a blob is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// All of it: no `Range` header at first, and nothing may follow the last byte.
    Whole,
    /// The range only.
    Part,
}

type Body = Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>;

struct Download {
    repository: Repository,
    digest: Digest,
    extent: Extent,
    /// What is still to come.
    range: Range<u64>,
    body: Option<Body>,
    /// The host that sends the body.
    host: usize,
    /// Bytes of the body that lie before the range.
    skip: u64,
    resumes_left: u32,
    /// Bytes since the last break.
    progress: u64,
}

/// Asks for a blob and answers with its bytes. The first answer is awaited here, so that refusals show at once.
pub(super) async fn start(
    repository: &Repository,
    digest: &Digest,
    range: Range<u64>,
    extent: Extent,
) -> Result<ByteStream, Error> {
    if range.is_empty() {
        return Ok(Box::pin(futures::stream::empty()));
    }
    let mut download = Download {
        repository: repository.clone(),
        digest: digest.clone(),
        extent,
        range,
        body: None,
        host: 0,
        skip: 0,
        resumes_left: RESUME_COUNT_MAX,
        progress: 0,
    };
    download.open().await?;
    Ok(Box::pin(futures::stream::try_unfold(
        download,
        |mut download| async { Ok(download.next().await?.map(|bytes| (bytes, download))) },
    )))
}

impl Download {
    fn what(&self) -> String {
        self.repository.describe_blob(&self.digest)
    }

    /// Asks for what is still to come.
    async fn open(&mut self) -> Result<(), Error> {
        let from_start = self.extent == Extent::Whole && self.range.start == 0;
        let range = if from_start { None } else { Some(&self.range) };
        let mirrors = self.repository.mirrors();
        let mut tries_left = mirrors.count();
        loop {
            tries_left -= 1;
            let Answer { response, host } = self.repository.get_blob(&self.digest, range).await?;
            match self.check(&response) {
                Ok(skip) => {
                    mirrors.note(host, &self.digest, self.range.clone());
                    (self.host, self.skip) = (host, skip);
                    self.body = Some(Box::pin(response.bytes_stream()));
                    return Ok(());
                }
                Err(error) if tries_left > 0 => mirrors.failed(host, Some(&self.digest), &error),
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether an answer has what was asked for, and how much of its body lies before that.
    fn check(&self, response: &Response) -> Result<u64, Error> {
        match response.status() {
            StatusCode::PARTIAL_CONTENT => self.check_part(response),
            _ => self.check_whole(response),
        }
    }

    /// An answer 206 must have the very range.
    fn check_part(&self, response: &Response) -> Result<u64, Error> {
        let header = response
            .headers()
            .get(CONTENT_RANGE)
            .and_then(|value| value.to_str().ok());
        let Some(found) = header.and_then(ContentRange::parse) else {
            let reason =
                format!("the registry sent a part without saying which ({CONTENT_RANGE}: {header:?})");
            return Err(Error::invalid(self.what(), &reason));
        };
        if found.range == self.range {
            return Ok(0);
        }
        let ends_early =
            found.range.start == self.range.start && found.total.is_some_and(|total| total < self.range.end);
        if ends_early {
            return Err(self.too_short(found.range.end - found.range.start));
        }
        let (asked, got) = (&self.range, found.range);
        Err(Error::invalid(
            self.what(),
            &format!("asked for bytes {asked:?}, the registry sent {got:?}"),
        ))
    }

    /// Any other answer is the whole blob; what lies before the range is to be skipped.
    fn check_whole(&self, response: &Response) -> Result<u64, Error> {
        let len = response.content_length();
        let wrong = match self.extent {
            Extent::Whole => len.is_some_and(|len| len != self.range.end),
            Extent::Part => len.is_some_and(|len| len < self.range.end),
        };
        if wrong {
            let (what, actual) = (self.what(), len.unwrap_or_default());
            return Err(Error::LengthMismatch {
                what,
                expected: self.range.end,
                actual,
            });
        }
        if self.range.start > SKIP_LEN_MAX {
            let reason =
                "the registry ignores Range requests, so parts of large blobs cannot be read from it";
            return Err(Error::invalid(self.what(), &reason));
        }
        Ok(self.range.start)
    }

    fn too_short(&self, actual: u64) -> Error {
        let what = format!("{}, bytes {:?}", self.what(), self.range);
        Error::LengthMismatch {
            what,
            expected: self.range.end - self.range.start,
            actual,
        }
    }

    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if self.extent == Extent::Part && self.range.is_empty() {
                return Ok(None);
            }
            match self.receive().await {
                Ok(None) if self.range.is_empty() => return Ok(None),
                Ok(Some(bytes)) => {
                    if let Some(bytes) = self.take(bytes) {
                        return Ok(Some(bytes));
                    }
                }
                Ok(None) => self.resume(self.too_short(0)).await?,
                Err(error) => self.resume(error).await?,
            }
        }
    }

    async fn receive(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(body) = &mut self.body else {
            return Ok(None);
        };
        let timeout = match self.repository.mirrors().count() {
            1 => STALL_TIMEOUT,
            _ => SHORT_TIMEOUT,
        };
        match tokio::time::timeout(timeout, body.next()).await {
            Ok(next) => next.transpose().map_err(|error| network(&self.what(), error)),
            Err(_) => Err(stalled(&self.what(), timeout)),
        }
    }

    /// Cuts received bytes to the range. Of a whole blob nothing is cut at the end: the length check must see it.
    fn take(&mut self, mut bytes: Bytes) -> Option<Bytes> {
        let skipped = self.skip.min(bytes.len() as u64);
        self.skip -= skipped;
        bytes.advance(skipped as usize);
        let wanted = self.range.end - self.range.start;
        if self.extent == Extent::Part && wanted < bytes.len() as u64 {
            bytes.truncate(wanted as usize);
        }
        let taken = (bytes.len() as u64).min(wanted);
        self.range.start += taken;
        self.progress = self.progress.saturating_add(taken);
        (!bytes.is_empty()).then_some(bytes)
    }

    /// Asks for the rest after `error`, or gives up with it.
    async fn resume(&mut self, error: Error) -> Result<(), Error> {
        if self.progress >= RESUME_PROGRESS_LEN {
            self.resumes_left = RESUME_COUNT_MAX;
        }
        if self.resumes_left == 0 || !error.is_retryable() || self.range.is_empty() {
            return Err(error);
        }
        self.resumes_left -= 1;
        self.progress = 0;
        let mirrors = self.repository.mirrors();
        mirrors.failed(self.host, Some(&self.digest), &error);
        tracing::debug!(%error, range = ?self.range, "blob is asked for again");
        self.open().await
    }
}
