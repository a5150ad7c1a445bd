//! Why a server cannot do what was asked.

use std::io;
use std::path::PathBuf;

use super::spec::IMAGE_ID_END;
use crate::session::ResumeError;

/// Why the server cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bootstrap is bad.
    #[error("bootstrap {path}: {source}")]
    Bootstrap {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rafs::Error,
    },
    /// The image's number is outside its range.
    #[error("image number {0} is outside 1..{IMAGE_ID_END}")]
    ImageNumber(u32),
    /// The kernel's EROFS does not serve the image, and nothing else is allowed.
    #[error(
        "the kernel's EROFS cannot serve the image: {reason}; hint: `data_path = \"auto\"` falls back to FUSE where \
         EROFS refuses"
    )]
    Erofs {
        /// Why not.
        reason: String,
    },
    /// The connection of an earlier server cannot be gone on with.
    #[error(transparent)]
    Resume(#[from] ResumeError),
    /// The system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    /// Whether trying again cannot help.
    pub(super) fn is_for_ever(&self) -> bool {
        match self {
            Error::Bootstrap { .. } | Error::ImageNumber(_) | Error::Erofs { .. } => true,
            Error::Resume(_) => false,
            Error::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
        }
    }
}
