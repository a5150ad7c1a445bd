//! One repository of a registry: its manifests, blobs and uploads.

use std::ops::Range;

use bytes::Bytes;
use oci_spec::image::{Descriptor, Digest, MediaType};
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use reqwest::{Method, Response};

use super::auth::Access;
use super::client::{Client, Request, UPLOAD_TIMEOUT};
use super::range::ContentRange;
use super::upload::Upload;
use super::{answer, download};
use crate::image::manifest::{DOCKER_INDEX, DOCKER_MANIFEST, MANIFEST_LEN_MAX};
use crate::image::{ByteStream, Error, Options, RawManifest, digest};

/// A repository of a registry. Cheap to clone; clones share connections and tokens.
#[derive(Clone)]
pub struct Repository {
    client: Client,
    name: String,
}

impl Repository {
    /// Prepares to speak to `host` (such as `registry.example:5000`) about the repository `name`. No traffic yet.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up, for instance because the system's certificates cannot be read.
    pub fn new(host: &str, name: &str, options: &Options) -> Result<Self, Error> {
        Ok(Self {
            client: Client::new(host, name, options)?,
            name: name.to_owned(),
        })
    }

    /// The registry's host, as it was given.
    pub fn host(&self) -> &str {
        self.client.host()
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// A path below `/v2/`.
    pub(super) fn path(&self, kind: &str, rest: &str) -> String {
        format!("{}/{kind}/{rest}", self.name)
    }

    fn describe(&self, kind: &str, id: &str) -> String {
        format!("{kind} {id} of {}/{}", self.client.host(), self.name)
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
        let response = self.client.send(&request).await?;
        let told = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let told = told.map(|value| MediaType::from(value.split(';').next().unwrap_or(value).trim()));
        let bytes = answer::body(response, &what, MANIFEST_LEN_MAX).await?;
        RawManifest::checked(&what, bytes, expected, told)
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
        self.client.send(&request).await.map(drop)
    }

    /// A whole blob; the stream ends in an error when length or digest are not those of `descriptor`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unauthorized`], [`Error::LengthMismatch`], network errors.
    pub async fn blob(&self, descriptor: &Descriptor) -> Result<ByteStream, Error> {
        let what = self.describe("blob", descriptor.digest().as_ref());
        let len = descriptor.size();
        let body = download::start(self, descriptor.digest(), 0..len, download::Extent::Whole).await?;
        crate::image::checked(body, what, len, descriptor.digest())
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
        let response = self.get_blob(digest, Some(&(0..1))).await?;
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
        self.client
            .send(&Request::new(Method::HEAD, path, access, what))
            .await
    }

    /// The answer to a GET of a blob or a part of it.
    pub(super) async fn get_blob(
        &self,
        digest: &Digest,
        range: Option<&Range<u64>>,
    ) -> Result<Response, Error> {
        let (path, what) = (
            self.path("blobs", digest.as_ref()),
            self.describe("blob", digest.as_ref()),
        );
        let mut request = Request::new(Method::GET, path, Access::Pull, what);
        if let Some(range) = range {
            request = request.header(RANGE, &super::range::request_header(range))?;
        }
        self.client.send(&request).await
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
