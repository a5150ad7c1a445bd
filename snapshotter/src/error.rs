//! Why the snapshotter cannot do what was asked.

use std::path::{Path, PathBuf};

use crate::filter;
use crate::mounter::MountError;
use crate::store::Kind;

/// Result with the crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the snapshotter cannot do what was asked. Variants are decisions: [`crate::status`] maps each to the code
/// containerd acts on. The text of an error in `Prepare` is what the user sees when the pull fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such snapshot.
    #[error("snapshot {name:?}: not found")]
    NotFound {
        /// Backend name.
        name: String,
    },
    /// The name is taken.
    #[error("snapshot {name:?}: already exists")]
    AlreadyExists {
        /// Backend name.
        name: String,
    },
    /// The layer needs no unpacking: a committed snapshot stands for it. This is how a lazy layer succeeds.
    #[error("target snapshot {reference:?}: already exists")]
    RemoteExists {
        /// Value of `containerd.io/snapshot.ref`.
        reference: String,
    },
    /// Only a committed snapshot can have children.
    #[error("parent {parent:?} is {kind}, not committed")]
    ParentNotCommitted {
        /// Parent's name.
        parent: String,
        /// What it is.
        kind: Kind,
    },
    /// The snapshot is of a kind for which this makes no sense.
    #[error("snapshot {name:?} is {kind}: it cannot be {operation}")]
    WrongKind {
        /// Backend name.
        name: String,
        /// What it is.
        kind: Kind,
        /// What was asked for, as a participle: `committed`, `mounted`.
        operation: &'static str,
    },
    /// Other snapshots stand on this one. Containerd's garbage collector relies on the wording.
    #[error("cannot remove snapshot with child: {name:?}")]
    HasChildren {
        /// Backend name.
        name: String,
    },
    /// A filter cannot be read.
    #[error(transparent)]
    Filter(#[from] filter::Error),
    /// The request itself is wrong.
    #[error("invalid {field}: {reason}")]
    Invalid {
        /// Which part of the request.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A layer of a RAFS image came without the image's name, so its data could not be found later.
    #[error(
        "RAFS layer {layer} came without its image's name, so its data cannot be found; hint: for Kubernetes set \
         disable_snapshot_annotations = false; for containerd 2.1 and later set \
         exports.enable_remote_snapshot_annotations = \"true\" on the proxy plugin; otherwise pull with \
         `slipwayd pull` (`slipwayd containerd-config` prints the configuration)"
    )]
    NoImageReference {
        /// What is known of the layer: its digest or chain id.
        layer: String,
    },
    /// The ancestors hold RAFS data, but none holds the metadata to read it.
    #[error(
        "snapshot {name:?} is data of a RAFS image without a bootstrap above it; hint: pull the image again, \
         its last layer is missing"
    )]
    NoBootstrap {
        /// The data layer.
        name: String,
    },
    /// An image could not be served.
    #[error("image {reference}: {source}")]
    Image {
        /// Reference of the image.
        reference: String,
        /// Why.
        source: Box<MountError>,
    },
    /// The cache refused.
    #[error("cache: {0}")]
    Cache(#[source] Box<MountError>),
    /// The database refused.
    #[error("store: {}{}", .0, store_hint(.0))]
    Store(Box<redb::Error>),
    /// The file system refused.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried, as an infinitive: `create`, `rename`.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The daemon is stopping.
    #[error("slipwayd is stopping; hint: try again when it runs")]
    Stopping,
}

impl Error {
    /// Makes the function that adds facts to an I/O error, for `map_err`.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io {
            what,
            path: path.to_owned(),
            source,
        }
    }

    /// A row that cannot be read: the file was damaged or written by something else.
    pub(crate) fn corrupted(reason: impl std::fmt::Display) -> Self {
        Self::Store(Box::new(redb::Error::Corrupted(reason.to_string())))
    }
}

/// What to do about a database that cannot be used.
fn store_hint(error: &redb::Error) -> &'static str {
    match error {
        redb::Error::Corrupted(_) | redb::Error::UpgradeRequired(_) => {
            "; hint: stop slipwayd, move store.redb out of its root, remove and pull the images again"
        }
        _ => "",
    }
}

macro_rules! from_redb {
    ($($source:ty),*) => {
        $(impl From<$source> for Error {
            fn from(source: $source) -> Self {
                Self::Store(Box::new(source.into()))
            }
        })*
    };
}

from_redb!(
    redb::CommitError,
    redb::DatabaseError,
    redb::StorageError,
    redb::TableError,
    redb::TransactionError
);
