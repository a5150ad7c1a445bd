//! Writing the manifest of a RAFS image: data layers, then one bootstrap layer; and the config that fits it.

use std::collections::{BTreeMap, HashMap};

use oci_spec::image::{Descriptor, ImageManifest, MediaType};
use proto::lazy::{self, LazyManifest};
use serde::Serialize;
use serde_json::{Value, json};

#[cfg(test)]
mod tests;

/// Whether the manifest is one of a RAFS image, whole or not.
pub(crate) fn is_rafs(manifest: &ImageManifest) -> bool {
    let is_blob = |layer: &Descriptor| layer.media_type().as_ref() == lazy::BLOB_MEDIA_TYPE;
    LazyManifest::parse(manifest).is_some() || manifest.layers().iter().any(is_blob)
}

/// What became of one layer of the source.
#[derive(Clone, Debug)]
pub(crate) struct DataLayer {
    /// Digest of the blob, which is its diff id too, and its length. `None` if no blob was added for the layer:
    /// it has no contents, or a lower layer has the same.
    pub(crate) blob: Option<(String, u64)>,
}

/// Fits the source's config to the new layers. Everything else in it stays.
pub(crate) fn config(source: &Value, layers: &[DataLayer], bootstrap_diff_id: &str) -> Value {
    let blobs = layers
        .iter()
        .filter_map(|layer| layer.blob.as_ref())
        .map(|(digest, _)| digest.as_str());
    let diff_ids: Vec<&str> = blobs.chain([bootstrap_diff_id]).collect();
    let mut config = source.clone();
    config["rootfs"] = json!({"type": "layers", "diff_ids": diff_ids});
    config["history"] = history(source["history"].as_array(), layers);
    config
}

/// The source's history, with the steps whose layers are gone marked empty, and one more for the bootstrap. Where
/// the source's does not tell steps from layers, nothing can be marked.
fn history(source: Option<&Vec<Value>>, layers: &[DataLayer]) -> Value {
    let mut steps = source.cloned().unwrap_or_default();
    let has_layer = |step: &&mut Value| step.is_object() && step["empty_layer"].as_bool() != Some(true);
    if steps.iter_mut().filter(has_layer).count() == layers.len() {
        let with_layer = steps.iter_mut().filter(has_layer);
        for (step, _) in with_layer.zip(layers).filter(|(_, layer)| layer.blob.is_none()) {
            step["empty_layer"] = true.into();
        }
    }
    steps.push(json!({"created_by": "slipway convert", "comment": "Nydus Bootstrap Layer"}));
    Value::Array(steps)
}

/// The document, with sorted annotations: same input, same bytes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    schema_version: u32,
    media_type: &'static str,
    config: Part<'a>,
    layers: Vec<Part<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'a str, &'a str>,
}

/// A descriptor with sorted annotations.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Part<'a> {
    media_type: &'static str,
    digest: &'a str,
    size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, &'static str>,
}

impl<'a> Part<'a> {
    /// A config.
    pub(crate) fn config(digest: &'a str, size: u64) -> Self {
        Self::layer("application/vnd.oci.image.config.v1+json", digest, size)
    }

    /// A plain layer.
    pub(crate) fn layer(media_type: &'static str, digest: &'a str, size: u64) -> Self {
        Part {
            media_type,
            digest,
            size,
            annotations: BTreeMap::new(),
        }
    }

    /// A data layer.
    pub(crate) fn blob(digest: &'a str, size: u64) -> Self {
        Part {
            media_type: lazy::BLOB_MEDIA_TYPE,
            digest,
            size,
            annotations: BTreeMap::from([(lazy::BLOB_ANNOTATION, "true")]),
        }
    }

    /// The bootstrap layer.
    pub(crate) fn bootstrap(digest: &'a str, size: u64) -> Self {
        let annotations = BTreeMap::from([
            (lazy::BOOTSTRAP_ANNOTATION, "true"),
            (lazy::FS_VERSION_ANNOTATION, lazy::FS_VERSION),
        ]);
        Part {
            media_type: "application/vnd.oci.image.layer.v1.tar+gzip",
            digest,
            size,
            annotations,
        }
    }
}

/// Writes the manifest. `annotations` are the source's.
pub(crate) fn manifest(
    config: Part<'_>,
    layers: Vec<Part<'_>>,
    annotations: Option<&HashMap<String, String>>,
) -> Result<Vec<u8>, serde_json::Error> {
    let annotations = annotations
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.as_str()));
    serde_json::to_vec(&Document {
        schema_version: 2,
        media_type: "application/vnd.oci.image.manifest.v1+json",
        config,
        layers,
        annotations: annotations.collect(),
    })
}

/// Media type of the manifests this writes.
pub(crate) const MANIFEST_TYPE: MediaType = MediaType::ImageManifest;
