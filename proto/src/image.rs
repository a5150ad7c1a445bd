//! OCI images wherever they lie: a registry, a layout folder, an archive file. Skopeo's names for places.
//!
//! ```text
//! Location (what the user wrote) -> ImageSource   reads:  registry | oci: | oci-archive: | docker-archive:
//!                                -> ImageTarget   writes: registry | oci: | oci-archive:
//! ```
//! Whole blobs and manifests are checked against their digests on the way. Ranges cannot be; who asks for a range has
//! digests of its own.

mod archive;
pub(crate) mod digest;
mod docker_archive;
mod error;
mod layout;
mod local;
mod location;
pub mod manifest;
mod reference;
mod source;
mod stream;
mod target;

pub use self::error::Error;
pub use self::location::Location;
pub use self::manifest::RawManifest;
pub use self::reference::{DEFAULT_HOST, DEFAULT_TAG, Reference};
pub use self::source::ImageSource;
pub use self::stream::ByteStream;
pub use self::target::{BlobUpload, ImageTarget};

pub(crate) use self::local::blocking;
pub(crate) use self::stream::checked;

/// How to reach registries.
#[derive(Clone, Default)]
pub struct Options {
    /// Plain HTTP instead of HTTPS. (Loopback hosts fall back to plain HTTP by themselves, as docker does.)
    pub plain_http: bool,
    /// User and password; without it docker's, podman's and skopeo's credential files are read.
    pub credentials: Option<(String, String)>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let user = self.credentials.as_ref().map(|(user, _)| user);
        formatter
            .debug_struct("Options")
            .field("plain_http", &self.plain_http)
            .field("user", &user)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
