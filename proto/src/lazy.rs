//! How a RAFS image is laid out as an OCI image, as the ecosystem does it.
//!
//! ```text
//! index      entry with artifact type or OS feature of RAFS  ->  manifest        choose
//! manifest   layers: data blobs..., one bootstrap layer last                     LazyManifest
//! bootstrap  gzip(tar: image/, image/image.boot, ...)                            fetch_bootstrap, bootstrap_layer
//! ```
//! What the bootstrap says is not this crate's business.

mod bootstrap;
mod index;

use oci_spec::image::{Descriptor, ImageManifest};

pub use self::bootstrap::{
    BOOTSTRAP_LEN_MAX, bootstrap_layer, extract_bootstrap, fetch_beside, fetch_bootstrap,
};
pub use self::index::{Prefer, choose, fitting_count};

/// Media type of a data blob.
pub const BLOB_MEDIA_TYPE: &str = "application/vnd.oci.image.layer.nydus.blob.v1";
/// Annotation of data blobs; its value is `true`.
pub const BLOB_ANNOTATION: &str = "containerd.io/snapshot/nydus-blob";
/// Annotation of the bootstrap layer; its value is `true`.
pub const BOOTSTRAP_ANNOTATION: &str = "containerd.io/snapshot/nydus-bootstrap";
/// Annotation of the bootstrap layer with the version of the format.
pub const FS_VERSION_ANNOTATION: &str = "containerd.io/snapshot/nydus-fs-version";
/// The version of the format that is meant everywhere here.
pub const FS_VERSION: &str = "6";
/// OS feature that marks a RAFS manifest in an index.
pub const OS_FEATURE: &str = "nydus.remoteimage.v1";
/// Artifact type that marks a RAFS manifest in newer indexes.
pub const ARTIFACT_TYPE: &str = "application/vnd.nydus.image.manifest.v1+json";
/// The bootstrap's name in its layer.
pub const BOOTSTRAP_PATH: &str = "image/image.boot";
/// Name of the hints beside it.
pub const HINTS_NAME: &str = "hints.json";

/// Layers that a RAFS manifest may have: container runtimes stop at about a tenth of it.
pub const LAYER_COUNT_MAX: usize = 1024;

/// The layers of a RAFS image by their part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LazyManifest {
    /// Data blobs, in the manifest's order. The bootstrap may use only some of them.
    pub blobs: Vec<Descriptor>,
    /// The layer with the bootstrap.
    pub bootstrap: Descriptor,
}

impl LazyManifest {
    /// Sorts the layers of `manifest`; `None` when it is not a RAFS image (or has more than [`LAYER_COUNT_MAX`] layers).
    pub fn parse(manifest: &ImageManifest) -> Option<Self> {
        let layers = manifest.layers();
        if layers.len() > LAYER_COUNT_MAX {
            return None;
        }
        let bootstrap = layers
            .iter()
            .rev()
            .find(|layer| is_marked(layer, BOOTSTRAP_ANNOTATION))?;
        let is_blob = |layer: &&Descriptor| {
            layer.media_type().as_ref() == BLOB_MEDIA_TYPE || is_marked(layer, BLOB_ANNOTATION)
        };
        Some(Self {
            blobs: layers.iter().filter(is_blob).cloned().collect(),
            bootstrap: bootstrap.clone(),
        })
    }
}

fn is_marked(layer: &Descriptor, key: &str) -> bool {
    let annotations = layer.annotations().as_ref();
    annotations
        .and_then(|annotations| annotations.get(key))
        .is_some_and(|value| value == "true")
}

#[cfg(test)]
mod tests;
