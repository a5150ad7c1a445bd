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
mod platform;
mod reference;
mod regular;
mod source;
mod stream;
mod target;
pub mod unfinished;

pub use self::error::Error;
pub use self::location::Location;
pub use self::manifest::RawManifest;
pub use self::platform::Platform;
pub use self::reference::{DEFAULT_HOST, DEFAULT_TAG, Reference};
pub use self::regular::open_regular;
pub(crate) use self::regular::read_regular;
pub use self::source::ImageSource;
pub use self::stream::ByteStream;
pub use self::target::{BlobUpload, ImageTarget};

pub(crate) use self::local::{Slice, blocking};
pub(crate) use self::stream::checked;

use std::sync::Arc;

use crate::registry::Network;

/// User and password as command lines take them: `USER[:PASSWORD]`. `Debug` does not show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// User name, not empty.
    pub user: String,
    /// Password, or a token that stands for one. Empty if none was given.
    pub password: String,
}

impl std::str::FromStr for Login {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (user, password) = text.split_once(':').unwrap_or((text, ""));
        match user {
            // What was given is not repeated: it may be all password.
            "" => Err("the user name is missing; expected USER or USER:PASSWORD"),
            _ => Ok(Self {
                user: user.to_owned(),
                password: password.to_owned(),
            }),
        }
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Login({}, ***)", self.user)
    }
}

impl From<Login> for (String, String) {
    fn from(login: Login) -> Self {
        (login.user, login.password)
    }
}

/// How to reach registries.
#[derive(Clone, Default)]
pub struct Options {
    /// Plain HTTP instead of HTTPS. (Loopback hosts fall back to plain HTTP by themselves, as docker does.)
    pub plain_http: bool,
    /// User and password; without it docker's, podman's and skopeo's credential files are read.
    pub credentials: Option<(String, String)>,
    /// Mirrors, and what this process knows of hosts; to be shared by all images.
    pub network: Arc<Network>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let user = self.credentials.as_ref().map(|(user, _)| user);
        formatter
            .debug_struct("Options")
            .field("plain_http", &self.plain_http)
            .field("user", &user)
            .field("network", &self.network)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
