//! What to do for a new snapshot, decided from its labels and ancestors alone.

#[cfg(test)]
mod tests;

use proto::lazy::{BLOB_ANNOTATION, BOOTSTRAP_ANNOTATION};

use crate::label;
use crate::store::{Labels, Origin, Role, Snapshot, SnapshotId};
use crate::{Error, Result};

/// What a snapshot stands on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stack {
    /// Snapshots with files, topmost first.
    pub layers: Vec<SnapshotId>,
    /// Bootstrap snapshot of the image below them all.
    pub image: Option<SnapshotId>,
}

/// What to do for a new snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// The layer stays in the registry: commit a row under its reference and answer that it exists.
    RemoteData {
        /// The name containerd wants: the layer's chain id.
        reference: String,
        /// The image; without it only a row that exists already can be answered.
        origin: Option<Origin>,
    },
    /// Containerd unpacks the bootstrap into an empty folder of its own.
    Bootstrap {
        /// The image.
        origin: Origin,
    },
    /// An overlay of unpacked layers.
    Ordinary(Stack),
    /// An overlay on a lazily served image.
    OverImage(Stack),
}

/// Why a plan was made; shown in logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The layer is marked as a RAFS blob.
    DataLayer,
    /// The layer is marked as the bootstrap.
    BootstrapLayer,
    /// The layer is marked as a RAFS blob, but the client did not say what to call it.
    DataLayerUnnamed,
    /// The layer has no RAFS mark: it is downloaded and unpacked.
    PlainLayer,
    /// The client named no target: a container, or a layer from a client that cannot load lazily.
    NoTarget,
    /// An ancestor is a bootstrap.
    ImageBelow,
}

impl Reason {
    /// Stable code for logs.
    pub fn code(self) -> &'static str {
        match self {
            Self::DataLayer => "data-layer",
            Self::BootstrapLayer => "bootstrap-layer",
            Self::DataLayerUnnamed => "data-layer-unnamed",
            Self::PlainLayer => "plain-layer",
            Self::NoTarget => "no-target",
            Self::ImageBelow => "image-below",
        }
    }
}

/// Plans a `Prepare`. `parents` are the ancestors, nearest first.
pub fn prepare(labels: &Labels, parents: &[Snapshot]) -> Result<(Plan, Reason)> {
    let origin = || {
        let inherited = || {
            parents
                .first()
                .filter(|parent| parent.role == Role::Data)?
                .origin
                .clone()
        };
        label::origin(labels).or_else(inherited)
    };
    let target = labels.get(label::SNAPSHOT_REF);
    if labels.contains_key(BOOTSTRAP_ANNOTATION) {
        let layer = || {
            labels
                .get(label::CRI_LAYER_DIGEST)
                .or(target)
                .cloned()
                .unwrap_or_default()
        };
        let origin = origin().ok_or_else(|| Error::NoImageReference { layer: layer() })?;
        return Ok((Plan::Bootstrap { origin }, Reason::BootstrapLayer));
    }
    let is_data = labels.contains_key(BLOB_ANNOTATION);
    if let (true, Some(reference)) = (is_data, target) {
        let plan = Plan::RemoteData {
            reference: reference.clone(),
            origin: origin(),
        };
        return Ok((plan, Reason::DataLayer));
    }
    let reason = match (is_data, target) {
        (true, _) => Reason::DataLayerUnnamed,
        (false, Some(_)) => Reason::PlainLayer,
        (false, None) => Reason::NoTarget,
    };
    local(parents, reason)
}

/// Plans a `View`, which is never a layer.
pub fn view(parents: &[Snapshot]) -> Result<(Plan, Reason)> {
    local(parents, Reason::NoTarget)
}

fn local(parents: &[Snapshot], reason: Reason) -> Result<(Plan, Reason)> {
    let stack = stack(Role::Ordinary, parents)?;
    Ok(match stack.image {
        Some(_) => (Plan::OverImage(stack), Reason::ImageBelow),
        None => (Plan::Ordinary(stack), reason),
    })
}

/// What a snapshot of this role stands on. A bootstrap stands on nothing: it describes the whole image itself.
pub fn stack(role: Role, parents: &[Snapshot]) -> Result<Stack> {
    let mut stack = Stack::default();
    if role != Role::Ordinary {
        return Ok(stack);
    }
    for parent in parents {
        match parent.role {
            Role::Ordinary => stack.layers.push(parent.id),
            Role::Bootstrap => {
                stack.image = Some(parent.id);
                break;
            }
            Role::Data => {
                return Err(Error::NoBootstrap {
                    name: parent.name.clone(),
                });
            }
        }
    }
    Ok(stack)
}
