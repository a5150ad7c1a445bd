//! What a conversion did, for people and for `--json`.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::merge::Merged;
use super::work::Worked;
use super::{Origin, Written, data_layers};

/// What a conversion did. All lengths are bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Digest of the manifest that was converted.
    pub source: String,
    /// Digest of the manifest that was written.
    pub manifest: String,
    /// Manifest, config and layers of the source.
    pub source_len: u64,
    /// Manifest, config and layers that were written.
    pub target_len: u64,
    /// The uncompressed bootstrap.
    pub bootstrap_len: u64,
    /// Contents of all files of all layers.
    pub content_len: u64,
    /// Contents stored once instead of several times within a layer.
    pub repeated_len: u64,
    /// Contents that lie in several layers' blobs, of which nodes fetch one.
    pub shared_len: u64,
    /// Files and directories to fetch ahead.
    pub prefetch_count: u64,
    /// What was to be fetched ahead and is not in the image.
    pub prefetch_missing: Vec<String>,
    /// Wall time.
    pub seconds: f64,
    /// The source's layers, lowest first.
    pub layers: Vec<LayerReport>,
}

/// What became of one layer.
#[derive(Clone, Debug, Serialize)]
pub struct LayerReport {
    /// Its digest in the source.
    pub digest: String,
    /// Bytes in the source.
    pub len: u64,
    /// Bytes uncompressed.
    pub tar_len: u64,
    /// Members of its archive.
    pub entry_count: u64,
    /// Digest of its blob; none if it has no contents, or the same as a lower layer.
    pub blob: Option<String>,
    /// Bytes of its blob.
    pub blob_len: u64,
    /// Chunks in its blob.
    pub chunk_count: u64,
}

impl Report {
    pub(super) fn new(
        origin: &Origin,
        order: &[(String, Arc<Worked>)],
        merged: &Merged,
        written: &Written,
        elapsed: Duration,
    ) -> Self {
        let sources = origin.layers.iter().map(|(descriptor, _)| descriptor.size());
        let layers: Vec<LayerReport> = order
            .iter()
            .zip(sources)
            .zip(data_layers(order))
            .map(|(((digest, worked), len), data)| LayerReport {
                digest: digest.clone(),
                len,
                tar_len: worked.tar_len,
                entry_count: worked.changes.len() as u64,
                blob_len: data.blob.as_ref().map_or(0, |(_, len)| *len),
                chunk_count: match (&data.blob, &worked.file) {
                    (Some(_), Some(file)) => file.blob.as_ref().map_or(0, |blob| blob.chunks.len() as u64),
                    _ => 0,
                },
                blob: data.blob.map(|(digest, _)| digest),
            })
            .collect();
        let config_len = origin.found.manifest.config().size();
        let blobs_len: u64 = layers.iter().map(|layer| layer.blob_len).sum();
        Report {
            source: origin.found.digest.to_string(),
            manifest: written.manifest.to_string(),
            source_len: origin.found.len + config_len + layers.iter().map(|layer| layer.len).sum::<u64>(),
            target_len: written.manifest_len + written.config_len + written.bootstrap_layer_len + blobs_len,
            bootstrap_len: merged.bootstrap.len() as u64,
            content_len: order.iter().map(|(_, worked)| worked.packed.content_len).sum(),
            repeated_len: order.iter().map(|(_, worked)| worked.packed.repeated_len).sum(),
            shared_len: merged.shared_len,
            prefetch_count: merged.ahead.inodes.len() as u64,
            prefetch_missing: merged.ahead.missing.clone(),
            seconds: elapsed.as_secs_f64(),
            layers,
        }
    }
}
