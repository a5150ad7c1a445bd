//! Stores of blobs beside registries: a folder, a web server's folder, an S3-compatible object store.
//!
//! ```text
//! Stores  which one to ask, and what to think of it after
//!   -> BlobStore   dir  http  s3     sign  requests that S3 takes for ours
//! ```
//! A blob's name is the hexadecimal sha256 of its bytes. What stores give is unchecked, as ranges of registries are.

mod dir;
mod http;
mod s3;
mod sign;
mod stores;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;

use futures::future::BoxFuture;
use oci_spec::image::Digest;
use reqwest::Url;

pub use self::stores::Stores;
use crate::image::{ByteStream, Error};

/// A place that has blobs.
trait BlobStore: Send + Sync {
    /// Its name in errors and logs, without secrets.
    fn name(&self) -> &str;
    /// Streams exactly `range` of a blob. [`Error::NotFound`] when it has no such blob; a blob that ends before the range
    /// does is an error, here or in the stream.
    fn range(&self, digest: &Digest, range: Range<u64>) -> BoxFuture<'_, Result<ByteStream, Error>>;
}

/// Where a store is, as users write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreLocation {
    /// `dir:/mnt/blobs`: files named by their digest, in the folder or in `sha256/` in it.
    Dir(PathBuf),
    /// `https://host/path/`: the same, on a web server that knows ranges.
    Http(Url),
    /// `s3://bucket/prefix?region=R&endpoint=URL`: objects named by prefix and digest.
    S3(S3Location),
}

/// Where objects are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Location {
    /// Name of the bucket.
    pub bucket: String,
    /// What the names of objects begin with.
    pub prefix: String,
    /// The region that requests are signed for.
    pub region: String,
    /// The address of another service than Amazon's; buckets are folders there.
    pub endpoint: Option<Url>,
}

/// The region of services that have none.
const REGION_DEFAULT: &str = "us-east-1";

impl FromStr for StoreLocation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        // What cannot be read is not repeated: it may hold a password.
        let invalid = |reason| Error::InvalidName {
            name: shown(text).to_owned(),
            reason,
        };
        if let Some(path) = text.strip_prefix("dir:") {
            let path = PathBuf::from(path);
            return match path.is_absolute() {
                true => Ok(Self::Dir(path)),
                false => Err(invalid("the folder must be an absolute path")),
            };
        }
        let mut url = Url::parse(text).map_err(|_| invalid("use dir:, http://, https:// or s3://"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("a password in an address would show in logs"));
        }
        match url.scheme() {
            "http" | "https" if url.query().is_none() => {
                if !url.path().ends_with('/') {
                    url.set_path(&format!("{}/", url.path()));
                }
                Ok(Self::Http(url))
            }
            "http" | "https" => Err(invalid("an address with a query is none of a folder")),
            "s3" => s3_location(text, &url).map(Self::S3).map_err(invalid),
            _ => Err(invalid("use dir:, http://, https:// or s3://")),
        }
    }
}

/// An address without what stands before the `@` or behind the question mark.
fn shown(text: &str) -> &str {
    let text = text.rsplit_once('@').map_or(text, |(_, rest)| rest);
    text.split('?').next().unwrap_or_default()
}

fn s3_location(text: &str, url: &Url) -> Result<S3Location, &'static str> {
    let bucket = url.host_str().filter(|bucket| !bucket.is_empty());
    let mut location = S3Location {
        bucket: bucket.ok_or("the bucket is missing")?.to_owned(),
        // As it is written: names of objects are not escaped.
        prefix: shown(text.trim_start_matches("s3://"))
            .split_once('/')
            .map_or_else(String::new, |(_, prefix)| prefix.to_owned()),
        region: REGION_DEFAULT.to_owned(),
        endpoint: None,
    };
    for (key, value) in url.query_pairs() {
        match key.as_ref() {
            "region" if !value.is_empty() => location.region = value.into_owned(),
            "endpoint" => {
                let endpoint = Url::parse(&value).map_err(|_| "the endpoint is no address")?;
                if !matches!(endpoint.scheme(), "http" | "https") || !endpoint.has_host() {
                    return Err("the endpoint must begin with https:// or http://");
                }
                location.endpoint = Some(endpoint);
            }
            _ => return Err("only region and endpoint can be said after the question mark"),
        }
    }
    Ok(location)
}
