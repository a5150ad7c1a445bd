//! One repository of a registry: its manifests, blobs and uploads.

use std::ops::Range;

use bytes::Bytes;
use futures::TryStreamExt;
use oci_spec::image::{Descriptor, Digest, MediaType};
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use reqwest::{Method, Response};

use super::auth::Access;
use super::client::{Client, Patience, Request, UPLOAD_TIMEOUT};
use super::mirrors::{Answer, Mirrors, Need};
use super::range::ContentRange;
use super::upload::Upload;
use super::{answer, download};
use crate::image::manifest::{DOCKER_INDEX, DOCKER_MANIFEST, MANIFEST_LEN_MAX};
use crate::image::{ByteStream, Error, Options, RawManifest, digest};

/// A repository of a registry. Cheap to clone; clones share connections and tokens.
#[derive(Clone)]
pub struct Repository {
    host: String,
    mirrors: Mirrors,
    name: String,
}

impl Repository {
    /// Prepares to speak to `host` (such as `registry.example:5000`) about the repository `name`. No traffic yet, but
    /// blocking: mirrors and certificates are in files.
    ///
    /// # Errors
    /// When what is configured for the host cannot be used, or the system's certificates cannot be read.
    pub fn new(host: &str, name: &str, options: &Options) -> Result<Self, Error> {
        Ok(Self {
            host: host.to_owned(),
            mirrors: Mirrors::new(host, name, options)?,
            name: name.to_owned(),
        })
    }

    /// The registry's host, as it was given.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The registry itself, where pushes go.
    pub(super) fn client(&self) -> Client {
        self.mirrors.registry()
    }

    /// The hosts that serve reads.
    pub(super) fn mirrors(&self) -> &Mirrors {
        &self.mirrors
    }

    /// A path below `/v2/`.
    pub(super) fn path(&self, kind: &str, rest: &str) -> String {
        format!("{}/{kind}/{rest}", self.name)
    }

    fn describe(&self, kind: &str, id: &str) -> String {
        format!("{kind} {id} of {}/{}", self.host, self.name)
    }

    /// A manifest or index, by tag or digest; its digest is computed from the bytes, and checked when it was given.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unauthorized`], [`Error::DigestMismatch`], [`Error::TooLarge`], network errors.
    pub async fn manifest(&self, tag: &str, expected: Option<&Digest>) -> Result<RawManifest, Error> {
        let id = expected.map_or(tag, |digest| digest.as_ref());
        let what = self.describe("manifest", id);
        let request = Request::new(
            Method::GET,
            self.path("manifests", id),
            Access::Pull,
            what.clone(),
        );
        let accepted = [
            MediaType::ImageManifest.as_ref(),
            MediaType::ImageIndex.as_ref(),
            DOCKER_MANIFEST,
            DOCKER_INDEX,
        ];
        // In one header: some registries read only the first.
        let request = request.header(ACCEPT, &accepted.join(", "))?;
        let need = if expected.is_some() {
            Need::Pull
        } else {
            Need::Resolve
        };
        let mut tries_left = self.mirrors.count();
        loop {
            tries_left -= 1;
            let Answer { response, host } = self.mirrors.send(&request, need, expected).await?;
            match read_manifest(response, &what, expected).await {
                Err(error) if tries_left > 0 => self.mirrors.failed(host, expected, &error),
                result => return result,
            }
        }
    }

    /// Stores a manifest or index under `id`, a tag or its digest.
    ///
    /// # Errors
    /// [`Error::Unauthorized`], [`Error::Refused`] (a blob it names is missing), network errors.
    pub async fn put_manifest(&self, id: &str, bytes: Bytes, media_type: &MediaType) -> Result<(), Error> {
        let what = self.describe("manifest", id);
        let mut request = Request::new(Method::PUT, self.path("manifests", id), Access::Push, what);
        request.body = Some(bytes);
        request.timeout = UPLOAD_TIMEOUT;
        let request = request.header(CONTENT_TYPE, media_type.as_ref())?;
        self.client().send(&request, Patience::Stubborn).await.map(drop)
    }

    /// A whole blob; the stream ends in an error when length or digest are not those of `descriptor`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unauthorized`], [`Error::LengthMismatch`], network errors.
    pub async fn blob(&self, descriptor: &Descriptor) -> Result<ByteStream, Error> {
        let what = self.describe("blob", descriptor.digest().as_ref());
        let len = descriptor.size();
        let body = download::start(self, descriptor.digest(), 0..len, download::Extent::Whole).await?;
        let checked = crate::image::checked(body, what, len, descriptor.digest())?;
        let (mirrors, digest) = (self.mirrors.clone(), descriptor.digest().clone());
        Ok(Box::pin(checked.inspect_err(move |error| {
            if matches!(error, Error::DigestMismatch { .. }) {
                mirrors.distrust(&digest, &(0..len));
            }
        })))
    }

    /// Tells that the bytes of a range were not what they should be, so that another host is asked next.
    pub fn distrust(&self, digest: &Digest, range: &Range<u64>) {
        self.mirrors.distrust(digest, range);
    }

    /// Exactly `range` of a blob, unchecked.
    ///
    /// # Errors
    /// As [`Repository::blob`]; [`Error::LengthMismatch`] when the blob ends before the range does.
    pub async fn range(&self, digest: &Digest, range: Range<u64>) -> Result<ByteStream, Error> {
        download::start(self, digest, range, download::Extent::Part).await
    }

    /// A blob's length in bytes.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unauthorized`], network errors.
    pub async fn blob_len(&self, digest: &Digest) -> Result<u64, Error> {
        let response = self.head_blob(digest, Access::Pull).await?;
        let header = response
            .headers()
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(len) = header {
            return Ok(len);
        }
        // Some proxies drop the header of answers without a body; a range of one byte tells the total as well.
        let response = self.get_blob(digest, Some(&(0..1))).await?.response;
        let range = response
            .headers()
            .get(CONTENT_RANGE)
            .and_then(|value| ContentRange::parse(value.to_str().ok()?));
        let what = self.describe("blob", digest.as_ref());
        range
            .and_then(|range| range.total)
            .ok_or_else(|| Error::invalid(what, "the registry tells no length"))
    }

    /// Whether a blob is there, asked with the access that a push needs.
    ///
    /// # Errors
    /// [`Error::Unauthorized`], network errors.
    pub async fn has_blob(&self, digest: &Digest) -> Result<bool, Error> {
        match self.head_blob(digest, Access::Push).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn head_blob(&self, digest: &Digest, access: Access) -> Result<Response, Error> {
        let (path, what) = (
            self.path("blobs", digest.as_ref()),
            self.describe("blob", digest.as_ref()),
        );
        let request = Request::new(Method::HEAD, path, access, what);
        match access {
            Access::Pull => {
                let answer = self.mirrors.send(&request, Need::Pull, Some(digest)).await?;
                Ok(answer.response)
            }
            Access::Push => self.client().send(&request, Patience::Full).await,
        }
    }

    /// The answer to a GET of a blob or a part of it.
    pub(super) async fn get_blob(
        &self,
        digest: &Digest,
        range: Option<&Range<u64>>,
    ) -> Result<Answer, Error> {
        let (path, what) = (
            self.path("blobs", digest.as_ref()),
            self.describe("blob", digest.as_ref()),
        );
        let mut request = Request::new(Method::GET, path, Access::Pull, what);
        if let Some(range) = range {
            request = request.header(RANGE, &super::range::request_header(range))?;
        }
        self.mirrors.send(&request, Need::Pull, Some(digest)).await
    }

    pub(super) fn describe_blob(&self, digest: &Digest) -> String {
        self.describe("blob", digest.as_ref())
    }

    /// Starts a blob whose digest is not known yet. No traffic until there is much to send.
    pub(crate) fn start_upload(&self) -> Upload {
        Upload::new(self.clone())
    }

    /// Stores a small blob, unless it is there.
    pub(crate) async fn put_blob(&self, bytes: Bytes) -> Result<Digest, Error> {
        let digest = digest::sha256_of(&bytes);
        let mut upload = self.start_upload();
        upload.write(&bytes).await?;
        upload.finish(&digest).await?;
        Ok(digest)
    }
}

/// Reads and checks the answer to a request for a manifest.
async fn read_manifest(
    response: Response,
    what: &str,
    expected: Option<&Digest>,
) -> Result<RawManifest, Error> {
    let told = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let told = told.map(|value| MediaType::from(value.split(';').next().unwrap_or(value).trim()));
    let bytes = answer::body(response, what, MANIFEST_LEN_MAX).await?;
    RawManifest::checked(what, bytes, expected, told)
}
