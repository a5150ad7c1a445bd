//! Why an image operation failed.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec::image::Digest;

/// Why an image operation failed. Variants are decisions (retry, wait, log in, give up); facts are in the fields.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name cannot be read.
    #[error("invalid image name {name:?}: {reason}")]
    InvalidName {
        /// As given.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// It is not there.
    #[error("{what} not found in {place}")]
    NotFound {
        /// Manifest, blob or file.
        what: String,
        /// Where it was looked for.
        place: String,
    },
    /// The registry wants other credentials, or none were found.
    #[error("{registry} refused access: {reason}; hint: {hint}")]
    Unauthorized {
        /// The registry's host.
        registry: String,
        /// The registry's own words, or what is missing.
        reason: String,
        /// What to do next.
        hint: String,
    },
    /// The registry asks to wait.
    #[error("{place} is limiting requests{}", wait_text(*retry_after))]
    Throttled {
        /// What was asked for.
        place: String,
        /// How long it asks to wait, when it says.
        retry_after: Option<Duration>,
    },
    /// The registry failed (5xx).
    #[error("{place}: the registry failed with status {status}{}", reason_text(message))]
    Server {
        /// What was asked for.
        place: String,
        /// HTTP status.
        status: u16,
        /// The registry's own words; may be empty.
        message: String,
    },
    /// The registry refused the request for good (another 4xx, or an answer outside the protocol).
    #[error(
        "{place}: the registry refused the request with status {status}{}",
        reason_text(message)
    )]
    Refused {
        /// What was asked for.
        place: String,
        /// HTTP status.
        status: u16,
        /// The registry's own words; may be empty.
        message: String,
    },
    /// No answer, or the connection broke.
    #[error("{place}: no usable connection")]
    Network {
        /// What was asked for.
        place: String,
        /// What the HTTP client said, without the address (it may hold a signature).
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// HTTPS was spoken to a registry that speaks plain HTTP.
    #[error("{registry} speaks plain HTTP, not HTTPS; if that is intended, use --plain-http")]
    PlainHttp {
        /// The registry's host.
        registry: String,
    },
    /// The bytes are not those that were asked for.
    #[error("{what} has digest {actual}, expected {expected}")]
    DigestMismatch {
        /// Blob or manifest, and where.
        what: String,
        /// The digest asked for.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// Fewer or more bytes than promised.
    #[error("{what} has {actual} bytes, expected {expected}")]
    LengthMismatch {
        /// Blob or range, and where.
        what: String,
        /// Bytes promised.
        expected: u64,
        /// Bytes there (of a body that is too long: bytes seen until that was clear).
        actual: u64,
    },
    /// The layout or archive lists several images, and which is meant was not said.
    #[error("{place} holds several images; hint: add {which}, one of {names}")]
    Several {
        /// The layout or archive.
        place: String,
        /// How an image is named there.
        which: &'static str,
        /// The names of the first of them.
        names: String,
    },
    /// The layout or archive lists no image.
    #[error("{place} holds no image")]
    Empty {
        /// The layout or archive.
        place: String,
    },
    /// Larger than this program is willing to hold or write.
    #[error("{what} is larger than the limit of {len_max} bytes")]
    TooLarge {
        /// Document or file.
        what: String,
        /// The limit in bytes.
        len_max: u64,
    },
    /// The document, archive or answer breaks its format.
    #[error("{what} is not valid: {reason}")]
    Invalid {
        /// Document, archive or answer.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// This kind of place can only be read.
    #[error("{place} can only be read; write to docker://, oci: or oci-archive: instead")]
    ReadOnly {
        /// The place.
        place: String,
    },
    /// A file could not be read or written.
    #[error("cannot read or write {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another input or output error, where no file has a name.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Error {
    /// Whether the same request may succeed when it is repeated a little later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Throttled { .. } | Self::Server { .. } | Self::Network { .. } => true,
            // A proxy or registry that cuts a body short, or damages it, usually does better the next time.
            Self::LengthMismatch { .. } | Self::DigestMismatch { .. } => true,
            Self::InvalidName { .. }
            | Self::NotFound { .. }
            | Self::Unauthorized { .. }
            | Self::Refused { .. }
            | Self::PlainHttp { .. }
            | Self::Several { .. }
            | Self::Empty { .. }
            | Self::TooLarge { .. }
            | Self::Invalid { .. }
            | Self::ReadOnly { .. }
            | Self::File { .. }
            | Self::Io(_) => false,
        }
    }

    /// How long the registry asked to wait, when it did.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// An [`Error::Invalid`].
    pub(crate) fn invalid(what: impl Into<String>, reason: &(impl ToString + ?Sized)) -> Self {
        Self::Invalid {
            what: what.into(),
            reason: reason.to_string(),
        }
    }

    /// An [`Error::File`] about `path`, or [`Error::NotFound`] when there is no such file.
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        |source| match source.kind() {
            io::ErrorKind::NotFound => {
                let place = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                let place =
                    place.map_or_else(|| "this folder".to_owned(), |parent| parent.display().to_string());
                let name = path.file_name().unwrap_or(path.as_os_str());
                Self::NotFound {
                    what: name.to_string_lossy().into_owned(),
                    place,
                }
            }
            _ => Self::File { path, source },
        }
    }
}

fn wait_text(retry_after: Option<Duration>) -> String {
    match retry_after {
        Some(wait) => format!("; it asks to wait {} s", wait.as_secs()),
        None => "; try again later".to_owned(),
    }
}

fn reason_text(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!(": {message}")
    }
}
