//! RAFS back to a plain image: all of its files in one layer, streamed from the blobs to the target.
//!
//! ```text
//! blobs --chunks--> [blocking thread: tar, hash, compress, hash] --bytes--> target
//! ```

use std::sync::Arc;

use bytes::Bytes;
use oci_spec::image::{Digest, ImageManifest};
use proto::image::{BlobUpload, ImageSource, ImageTarget, Platform};
use proto::lazy::{OS_FEATURE, Prefer};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::error::Error;
use crate::manifest::{self, Part};
use crate::opened::RafsImage;
use crate::origin;
use crate::progress::Observer;
use crate::unpack::{self, Lost};

mod layer;

pub use layer::LayerCompression;
use layer::WrittenLayer;
pub(crate) use layer::{LayerWriter, Opening};

/// Pieces of the layer between compressor and target.
const OUTPUT_COUNT_MAX: usize = 16;
/// Annotations and marks of RAFS images start with this.
const MARK: &str = "containerd.io/snapshot/nydus-";
/// What RAFS converters write of their own step in the history.
const BOOTSTRAP_COMMENT: &str = "Nydus Bootstrap Layer";

/// What was written. All lengths are bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Restored {
    /// Digest of the manifest that was read.
    pub source: String,
    /// Digest of the manifest that was written.
    pub manifest: String,
    /// Digest of the layer.
    pub layer: String,
    /// Bytes of the layer.
    pub layer_len: u64,
    /// Paths in it.
    pub path_count: u64,
    /// Contents of all files.
    pub content_len: u64,
    /// What a layer cannot hold.
    pub lost: Lost,
}

/// Whether the image at `source` is a RAFS image, and there is no plain one for the platform beside it.
pub async fn is_rafs(source: &ImageSource, platform: Option<&Platform>) -> Result<bool, Error> {
    let found = origin::find(source, platform, Prefer::Plain).await?;
    Ok(proto::lazy::LazyManifest::parse(&found.manifest).is_some())
}

/// Writes the files of a RAFS image to `target` as a plain OCI image of one layer. The caller finishes the target.
///
/// The same image and compression give the same bytes.
pub async fn restore(
    image: RafsImage,
    target: &ImageTarget,
    compression: LayerCompression,
    observer: Arc<dyn Observer>,
) -> Result<Restored, Error> {
    let image = Arc::new(image);
    let config = origin::config(&image.source, &image.found.manifest).await?;
    let (output, pieces) = mpsc::channel(OUTPUT_COUNT_MAX);
    let (layer, written) = Opening::to(compression, output);
    let unpacking = unpack::unpack_layer(Arc::clone(&image), layer, observer);
    let (unpacked, uploaded) = futures::join!(unpacking, upload(target, pieces));
    // In this order the cause comes before what it made fail: a target that is gone stops the writer.
    let upload = match (uploaded, &unpacked) {
        (Ok(upload), _) => upload,
        (Err(error), _) => return Err(error),
    };
    let unpacked = unpacked?;
    let layer = written.await.map_err(|_| Error::Interrupted)?;
    upload.finish(&layer.digest).await?;
    let manifest = put_manifest(target, &image, &config, compression, &layer).await?;
    Ok(Restored {
        source: image.found.digest.to_string(),
        manifest: manifest.to_string(),
        layer: layer.digest.to_string(),
        layer_len: layer.len,
        path_count: unpacked.path_count,
        content_len: unpacked.content_len,
        lost: unpacked.lost,
    })
}

async fn upload(target: &ImageTarget, mut pieces: mpsc::Receiver<Bytes>) -> Result<BlobUpload, Error> {
    let mut upload = target.start_blob().await?;
    while let Some(bytes) = pieces.recv().await {
        upload.write(bytes).await?;
    }
    Ok(upload)
}

async fn put_manifest(
    target: &ImageTarget,
    image: &RafsImage,
    source_config: &Value,
    compression: LayerCompression,
    layer: &WrittenLayer,
) -> Result<Digest, Error> {
    let document = |what: &str, source| Error::Document {
        what: what.to_owned(),
        source,
    };
    let config = serde_json::to_vec(&config(source_config, &layer.diff_id))
        .map_err(|source| document("new config", source))?;
    let config_len = config.len() as u64;
    let config_digest = target.put_blob(Bytes::from(config)).await?.to_string();
    let layer_digest = layer.digest.to_string();
    let annotations = plain_annotations(&image.found.manifest);
    let bytes = manifest::manifest(
        Part::config(&config_digest, config_len),
        vec![Part::layer(compression.media_type(), &layer_digest, layer.len)],
        Some(&annotations),
    )
    .map_err(|source| document("new manifest", source))?;
    Ok(target
        .put_manifest(bytes.into(), &manifest::MANIFEST_TYPE, true)
        .await?)
}

/// The manifest's annotations without what marks RAFS images.
fn plain_annotations(manifest: &ImageManifest) -> std::collections::HashMap<String, String> {
    let annotations = manifest.annotations().iter().flatten();
    annotations
        .filter(|(key, _)| !key.starts_with(MARK))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// The config for one layer. The steps of the history stay, but none has a layer of its own any more: all are in the
/// last.
fn config(source: &Value, diff_id: &str) -> Value {
    let mut config = source.clone();
    config["rootfs"] = json!({"type": "layers", "diff_ids": [diff_id]});
    let steps = source["history"].as_array().cloned().unwrap_or_default();
    let mut steps: Vec<Value> = steps
        .into_iter()
        .filter(|step| step["comment"] != BOOTSTRAP_COMMENT)
        .collect();
    for step in steps.iter_mut().filter(|step| step.is_object()) {
        step["empty_layer"] = true.into();
    }
    steps.push(json!({"created_by": "slipway convert", "comment": "all layers in one"}));
    config["history"] = Value::Array(steps);
    let features = config.get_mut("os.features").and_then(Value::as_array_mut);
    if let Some(features) = features {
        features.retain(|feature| feature != OS_FEATURE);
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_tells_one_layer() {
        let source = json!({
            "os": "linux", "os.features": [OS_FEATURE, "other"], "config": {"Env": ["A=b"]},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:1", "sha256:2"]},
            "history": [{"created_by": "a"}, {"created_by": "b", "empty_layer": true}, {"comment": BOOTSTRAP_COMMENT}],
        });
        let expected = json!({
            "os": "linux", "os.features": ["other"], "config": {"Env": ["A=b"]},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:3"]},
            "history": [
                {"created_by": "a", "empty_layer": true},
                {"created_by": "b", "empty_layer": true},
                {"created_by": "slipway convert", "comment": "all layers in one"},
            ],
        });
        assert_eq!(config(&source, "sha256:3"), expected);
    }
}
