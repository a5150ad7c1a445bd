//! A web server's folder of blobs, and what it has in common with object stores.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use oci_spec::image::Digest;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, RANGE};
use reqwest::redirect::Policy;
use reqwest::{RequestBuilder, Response, StatusCode, Url};

use super::BlobStore;
use crate::image::{ByteStream, Error};
use crate::registry::{ContentRange, answer_error, network_error};

/// A connection attempt that takes longer is given up; there is a registry to ask instead.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// An answer has begun within this time, and goes on within it: twice this is within the silence that reads accept.
const SILENCE_MAX: Duration = Duration::from_secs(4);
/// Idle connections are kept this long: less than the 60 s after which common servers close theirs.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// A web server's folder.
pub(super) struct Http {
    base: Url,
    client: reqwest::Client,
}

impl Http {
    /// Blocking: reads the system's certificates.
    pub(super) fn new(base: Url) -> Result<Self, Error> {
        let client = client(&base)?;
        Ok(Self { base, client })
    }
}

impl BlobStore for Http {
    fn name(&self) -> &str {
        self.base.as_str()
    }

    fn range(&self, digest: &Digest, range: Range<u64>) -> BoxFuture<'_, Result<ByteStream, Error>> {
        let what = format!("blob {digest} of {}", self.base);
        let url = self.base.join(digest.digest());
        async move {
            let url = url.map_err(|error| Error::invalid(&what, &error))?;
            fetch(self.client.get(url), &what, range).await
        }
        .boxed()
    }
}

/// A client for stores. Blocking: reads the system's certificates.
pub(super) fn client(base: &Url) -> Result<reqwest::Client, Error> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("slipway/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(SILENCE_MAX)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .http1_only()
        .referer(false)
        // A store has its blobs itself; a signature is for one address.
        .redirect(Policy::none());
    if base.host_str().is_some_and(crate::registry::is_loopback) {
        builder = builder.no_proxy();
    }
    builder
        .build()
        .map_err(|error| network_error(base.as_str(), error))
}

/// Sends a request for a range, and gives exactly that.
pub(super) async fn fetch(
    request: RequestBuilder,
    what: &str,
    range: Range<u64>,
) -> Result<ByteStream, Error> {
    if range.is_empty() {
        return Ok(futures::stream::empty().boxed());
    }
    let request = request
        .header(RANGE, range_header(&range))
        .header(ACCEPT_ENCODING, "identity");
    let sent = tokio::time::timeout(SILENCE_MAX, request.send()).await;
    let response = match sent {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(network_error(what, error)),
        Err(_) => {
            let source = Box::new(std::io::Error::from(std::io::ErrorKind::TimedOut));
            let place = what.to_owned();
            return Err(Error::Network { place, source });
        }
    };
    check(&response, what, &range)?;
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return Err(answer_error(response, what, "the store").await);
    }
    let len = range.end - range.start;
    Ok(exactly(response, what.to_owned(), len))
}

/// The value of a `Range` header.
pub(super) fn range_header(range: &Range<u64>) -> String {
    format!("bytes={}-{}", range.start, range.end.saturating_sub(1))
}

/// Whether a good answer is what was asked for.
fn check(response: &Response, what: &str, range: &Range<u64>) -> Result<(), Error> {
    let status = response.status();
    if status.is_success() && status != StatusCode::PARTIAL_CONTENT {
        return Err(Error::invalid(what, "the store ignores Range requests"));
    }
    let header = response.headers().get(CONTENT_RANGE);
    let found = header.and_then(|value| ContentRange::parse(value.to_str().ok()?));
    match found {
        _ if !status.is_success() => Ok(()),
        Some(found) if found.range == *range => Ok(()),
        Some(found) if found.range.start == range.start && found.range.end < range.end => Err(short(
            what,
            range.end - range.start,
            found.range.end - found.range.start,
        )),
        _ => Err(Error::invalid(
            what,
            "the store sent another range than was asked for",
        )),
    }
}

fn short(what: &str, expected: u64, actual: u64) -> Error {
    Error::LengthMismatch {
        what: what.to_owned(),
        expected,
        actual,
    }
}

/// The body, cut to `len` bytes; an error if it ends before.
fn exactly(response: Response, what: String, len: u64) -> ByteStream {
    let failed = what.clone();
    let body = response.bytes_stream();
    let body = body.map_err(move |error| network_error(&failed, error)).boxed();
    let state = (body, 0_u64, what);
    futures::stream::try_unfold(state, move |(mut body, mut seen, what)| async move {
        if seen == len {
            return Ok(None);
        }
        let Some(mut bytes) = body.try_next().await? else {
            return Err(short(&what, len, seen));
        };
        let left = usize::try_from(len - seen).unwrap_or(usize::MAX);
        bytes.truncate(left);
        seen += bytes.len() as u64;
        Ok::<_, Error>(Some((bytes as Bytes, (body, seen, what))))
    })
    .boxed()
}
