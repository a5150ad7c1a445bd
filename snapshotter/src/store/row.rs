//! What the store remembers of a snapshot.

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use fuse::ImageId;
use serde::{Deserialize, Serialize};

/// Labels of a snapshot. Empty values are never stored.
pub type Labels = BTreeMap<String, String>;

/// Number of a snapshot on this node; never reused. It names the snapshot's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SnapshotId(pub u64);

/// Kind of a snapshot, in containerd's sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Read only, never committed.
    View,
    /// Writable.
    Active,
    /// Finished; others may stand on it.
    Committed,
}

impl Kind {
    /// The word the filter language uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Active => "active",
            Self::Committed => "committed",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a snapshot is to a lazily loaded image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Files, as with any overlay snapshotter.
    Ordinary,
    /// A layer that stays in the registry; it has no folder.
    Data,
    /// The layer with the metadata of the whole image.
    Bootstrap,
}

/// Which image a layer belongs to. Kept beside the labels, because `Commit` replaces those.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Reference the image was pulled by.
    pub image: String,
    /// Digest of its platform manifest.
    pub manifest: Option<String>,
    /// Digest of this layer.
    pub layer: Option<String>,
}

/// Space a snapshot takes by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes on disk.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

/// What a commit finds in the snapshot's folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// Its size.
    pub usage: Usage,
    /// Digest of the bootstrap file, in a bootstrap.
    pub bootstrap: Option<String>,
}

/// The snapshot another stands on. Committed, so neither number nor name changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Its number.
    pub id: SnapshotId,
    /// Its name.
    pub name: String,
}

/// A snapshot as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Number.
    pub id: SnapshotId,
    /// Backend name: the key until it is committed.
    pub name: String,
    /// What it stands on.
    pub parent: Option<Parent>,
    /// Kind.
    pub kind: Kind,
    /// What it is to a lazy image.
    pub role: Role,
    /// Image it was made for, where the client told.
    pub origin: Option<Origin>,
    /// The `snapshot.ref` a data layer stands for. Its own field, since labels may be updated.
    pub remote: Option<String>,
    /// Labels.
    pub labels: Labels,
    /// When it came to be; a commit counts as a new beginning.
    pub created: SystemTime,
    /// When its labels changed last.
    pub updated: SystemTime,
    /// Measured when it was committed.
    pub usage: Usage,
    /// The image served from this bootstrap, once committed.
    pub image: Option<u32>,
    /// Digest of this bootstrap's file, once committed.
    #[serde(default)]
    pub bootstrap_digest: Option<String>,
}

impl Snapshot {
    /// Name of the parent, empty for a base layer, as the protocol has it.
    pub fn parent_name(&self) -> &str {
        self.parent.as_ref().map_or("", |parent| &parent.name)
    }

    /// Number of the image served from this snapshot.
    pub fn image_id(&self) -> Option<ImageId> {
        self.image.map(ImageId)
    }
}
