//! Labels that carry meaning, and what they say about a layer. Containerd hands the marks of RAFS layers,
//! [`proto::lazy::BLOB_ANNOTATION`] and [`proto::lazy::BOOTSTRAP_ANNOTATION`], down from the layers' descriptors.

use std::collections::HashMap;

use crate::store::{Labels, Origin};

/// The committed snapshot containerd wants in the end: the layer's chain id.
pub const SNAPSHOT_REF: &str = "containerd.io/snapshot.ref";
/// Prefix of labels that containerd hands down from layer descriptors.
pub const SNAPSHOT_PREFIX: &str = "containerd.io/snapshot/";

/// How users of a container map to the node's, `CONTAINER:HOST:COUNT[,...]`.
pub const UID_MAPPING: &str = "containerd.io/snapshot/uidmapping";
/// The same for groups.
pub const GID_MAPPING: &str = "containerd.io/snapshot/gidmapping";

/// Reference of the image, as CRI, nerdctl and containerd's transfer service tell.
pub const CRI_IMAGE_REF: &str = "containerd.io/snapshot/cri.image-ref";
/// Digest of the layer.
pub const CRI_LAYER_DIGEST: &str = "containerd.io/snapshot/cri.layer-digest";
/// Digests of this layer and all above it, separated by commas.
pub const CRI_IMAGE_LAYERS: &str = "containerd.io/snapshot/cri.image-layers";
/// Digest of the platform manifest.
pub const CRI_MANIFEST_DIGEST: &str = "containerd.io/snapshot/cri.manifest-digest";

/// Reference of the image, as clients made for stargz tell.
pub const STARGZ_REFERENCE: &str = "containerd.io/snapshot/remote/stargz.reference";
/// Digest of the layer, from the same clients.
pub const STARGZ_DIGEST: &str = "containerd.io/snapshot/remote/stargz.digest";

/// Takes labels from a request. Empty values are dropped, as containerd's own stores do: clients do send them.
pub fn from_request(labels: HashMap<String, String>) -> Labels {
    labels
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

/// Which image a layer belongs to, where its labels tell.
pub fn origin(labels: &Labels) -> Option<Origin> {
    let first = |keys: &[&str]| keys.iter().find_map(|key| labels.get(*key)).cloned();
    Some(Origin {
        image: first(&[CRI_IMAGE_REF, STARGZ_REFERENCE])?,
        manifest: first(&[CRI_MANIFEST_DIGEST]),
        layer: first(&[CRI_LAYER_DIGEST, STARGZ_DIGEST]),
    })
}
