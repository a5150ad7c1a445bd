//! The manifest of a RAFS image: data layers, then one bootstrap layer; and the config that fits it.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use oci_spec::image::{Descriptor, ImageManifest, MediaType};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

#[cfg(test)]
mod tests;

/// Media type of a blob of chunks.
pub const BLOB_LAYER: &str = "application/vnd.oci.image.layer.nydus.blob.v1";
/// Marks data layers.
pub const BLOB_ANNOTATION: &str = "containerd.io/snapshot/nydus-blob";
/// Marks the bootstrap layer.
pub const BOOTSTRAP_ANNOTATION: &str = "containerd.io/snapshot/nydus-bootstrap";
/// The format's version, on the bootstrap layer.
pub const FS_VERSION_ANNOTATION: &str = "containerd.io/snapshot/nydus-fs-version";

/// The bootstrap's name in its layer.
const BOOTSTRAP_PATH: &str = "image/image.boot";
/// Enough for tens of millions of files, and a bound on what a gzip bomb can take.
const BOOTSTRAP_LEN_MAX: u64 = 4 << 30;

/// Whether the manifest is one of a RAFS image.
pub fn is_rafs(manifest: &ImageManifest) -> bool {
    bootstrap_layer(manifest).is_some()
        || manifest
            .layers()
            .iter()
            .any(|layer| layer.media_type().as_ref() == BLOB_LAYER)
}

/// The layer that holds the bootstrap.
pub fn bootstrap_layer(manifest: &ImageManifest) -> Option<&Descriptor> {
    let is_marked = |layer: &&Descriptor| has_annotation(layer, BOOTSTRAP_ANNOTATION);
    manifest.layers().iter().rev().find(is_marked)
}

/// The layers that hold chunks.
pub fn data_layers(manifest: &ImageManifest) -> impl Iterator<Item = &Descriptor> {
    manifest
        .layers()
        .iter()
        .filter(|layer| layer.media_type().as_ref() == BLOB_LAYER || has_annotation(layer, BLOB_ANNOTATION))
}

fn has_annotation(layer: &Descriptor, key: &str) -> bool {
    layer
        .annotations()
        .as_ref()
        .is_some_and(|annotations| annotations.get(key).is_some_and(|value| value == "true"))
}

/// A bootstrap packed as a layer.
#[derive(Clone, Debug)]
pub(crate) struct PackedBootstrap {
    /// The compressed layer.
    pub(crate) bytes: Bytes,
    /// sha256 of the uncompressed layer.
    pub(crate) diff_id: [u8; 32],
}

/// Packs a bootstrap: the same bytes for the same bootstrap.
pub(crate) fn pack_bootstrap(bootstrap: &[u8]) -> std::io::Result<PackedBootstrap> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = |path: &str, entry_type, mode, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(entry_type);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        archive.append_data(&mut header, path, content)
    };
    header("image/", tar::EntryType::Directory, 0o755, &[])?;
    header(BOOTSTRAP_PATH, tar::EntryType::Regular, 0o444, bootstrap)?;
    let archive = archive.into_inner()?;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&archive)?;
    Ok(PackedBootstrap {
        bytes: encoder.finish()?.into(),
        diff_id: Sha256::digest(&archive).into(),
    })
}

/// Takes the bootstrap out of its layer. `None` if there is none in it.
pub(crate) fn unpack_bootstrap(layer: &[u8]) -> std::io::Result<Option<Vec<u8>>> {
    let archive: Box<dyn Read + '_> = match layer {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(layer)),
        plain => Box::new(plain),
    };
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path_bytes();
        if path.strip_prefix(b"./").unwrap_or(&path) == BOOTSTRAP_PATH.as_bytes() {
            if entry.size() > BOOTSTRAP_LEN_MAX {
                return Err(std::io::Error::other("the bootstrap is larger than 4 GiB"));
            }
            let mut bootstrap = Vec::new();
            entry.read_to_end(&mut bootstrap)?;
            return Ok(Some(bootstrap));
        }
    }
    Ok(None)
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
    let has_layer = |step: &&mut Value| step["empty_layer"].as_bool() != Some(true);
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
        let media_type = "application/vnd.oci.image.config.v1+json";
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
            media_type: BLOB_LAYER,
            digest,
            size,
            annotations: BTreeMap::from([(BLOB_ANNOTATION, "true")]),
        }
    }

    /// The bootstrap layer.
    pub(crate) fn bootstrap(digest: &'a str, size: u64) -> Self {
        let annotations = BTreeMap::from([(BOOTSTRAP_ANNOTATION, "true"), (FS_VERSION_ANNOTATION, "6")]);
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
