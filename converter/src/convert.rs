//! Conversion: all layers in parallel, then one merge, then the manifest.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use oci_spec::image::{Descriptor, Digest};
use proto::image::{ImageSource, ImageTarget, Platform};
use proto::lazy;

use crate::error::Error;
use crate::manifest::{self, DataLayer, Part};
use crate::origin::Origin;
use crate::pack::ChunkOptions;
use crate::prefetch::Prefetch;
use crate::progress::{Event, Observer};

mod merge;
mod report;
mod work;

use merge::Merged;
pub use report::{LayerReport, Report};
use work::{Worked, Workshop};

/// Layers read at the same time. Registries serve a client well with about as many connections, and each layer
/// costs memory: its share of the channels and of the pool's queue.
const LAYER_COUNT_AT_ONCE: usize = 4;

/// How to convert.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which image of an index; the host's if `None`.
    pub platform: Option<Platform>,
    /// How chunks are made.
    pub chunks: ChunkOptions,
    /// What nodes should fetch ahead.
    pub prefetch: Prefetch,
    /// Whether each blob carries the bootstrap of its layer alone, for tools that merge or unpack layers.
    pub layer_bootstraps: bool,
    /// Threads that hash and compress.
    pub jobs: usize,
}

/// Converts the image of `source` and writes it to `target` under the target's tag. The caller finishes the target.
pub async fn convert(
    source: &ImageSource,
    target: &ImageTarget,
    options: &Options,
    observer: Arc<dyn Observer>,
) -> Result<Report, Error> {
    let started = Instant::now();
    let origin = Origin::find(source, options.platform.as_ref()).await?;
    let workshop = Workshop::new(source, target, options, observer.clone())?;
    let worked = work_all(&workshop, &origin, observer.as_ref()).await?;
    observer.event(Event::Merging);
    let order: Vec<&Descriptor> = origin.layers.iter().map(|(descriptor, _)| descriptor).collect();
    let order: Vec<(String, Arc<Worked>)> = order
        .into_iter()
        .map(|layer| (layer.digest().to_string(), Arc::clone(&worked[layer.digest()])))
        .collect();
    let (chunks, prefetch) = (options.chunks, options.prefetch.clone());
    let for_merge = order.clone();
    let merged = tokio::task::spawn_blocking(move || merge::merge(&for_merge, chunks, &prefetch))
        .await
        .map_err(|_| Error::Interrupted)??;
    let written = write(target, &origin, &order, &merged).await?;
    Ok(Report::new(&origin, &order, &merged, &written, started.elapsed()))
}

/// Converts each distinct layer once.
async fn work_all(
    workshop: &Workshop<'_>,
    origin: &Origin,
    observer: &dyn Observer,
) -> Result<HashMap<Digest, Arc<Worked>>, Error> {
    let mut distinct: Vec<&(Descriptor, Digest)> = Vec::new();
    for layer in &origin.layers {
        if distinct.iter().all(|known| known.0.digest() != layer.0.digest()) {
            distinct.push(layer);
        }
    }
    let len = distinct.iter().map(|(descriptor, _)| descriptor.size()).sum();
    observer.event(Event::Found {
        layer_count: distinct.len(),
        len,
    });
    stream::iter(distinct.into_iter().enumerate())
        .map(|(number, (descriptor, diff_id))| async move {
            let worked = workshop.work(number, descriptor, diff_id).await?;
            Ok((descriptor.digest().clone(), Arc::new(worked)))
        })
        // Unordered: the first layer that fails ends the conversion.
        .buffer_unordered(LAYER_COUNT_AT_ONCE)
        .try_collect()
        .await
}

/// Digests and lengths of what was written beside the blobs.
#[derive(Clone, Debug)]
struct Written {
    manifest: Digest,
    manifest_len: u64,
    config_len: u64,
    bootstrap_layer_len: u64,
}

async fn write(
    target: &ImageTarget,
    origin: &Origin,
    order: &[(String, Arc<Worked>)],
    merged: &Merged,
) -> Result<Written, Error> {
    let layers = data_layers(order);
    let hints = merged.ahead.text()?;
    let hints: Vec<_> = hints
        .iter()
        .map(|text| (lazy::HINTS_NAME, text.as_slice()))
        .collect();
    let (bootstrap, diff_id) = lazy::bootstrap_layer(&merged.bootstrap, &hints)?;
    let diff_id = diff_id.to_string();
    let bootstrap_layer_len = bootstrap.len() as u64;
    let bootstrap_digest = target.put_blob(bootstrap.into()).await?.to_string();
    let document = |source| Error::Document {
        what: "new config".to_owned(),
        source,
    };
    let config = manifest::config(&origin.config, &layers, &diff_id);
    let config = serde_json::to_vec(&config).map_err(document)?;
    let config_len = config.len() as u64;
    let config_digest = target.put_blob(Bytes::from(config)).await?.to_string();
    let blobs = layers.iter().filter_map(|layer| layer.blob.as_ref());
    let mut parts: Vec<Part<'_>> = blobs.map(|(digest, len)| Part::blob(digest, *len)).collect();
    parts.push(Part::bootstrap(&bootstrap_digest, bootstrap_layer_len));
    let config_part = Part::config(&config_digest, config_len);
    let annotations = origin.found.manifest.annotations().as_ref();
    let bytes = manifest::manifest(config_part, parts, annotations).map_err(|source| Error::Document {
        what: "new manifest".to_owned(),
        source,
    })?;
    let manifest_len = bytes.len() as u64;
    let manifest = target
        .put_manifest(bytes.into(), &manifest::MANIFEST_TYPE, true)
        .await?;
    Ok(Written {
        manifest,
        manifest_len,
        config_len,
        bootstrap_layer_len,
    })
}

/// Which layers bring a blob: the first of those with the same blob.
fn data_layers(order: &[(String, Arc<Worked>)]) -> Vec<DataLayer> {
    let mut known: Vec<[u8; 32]> = Vec::new();
    let blob_of = |worked: &Worked| {
        let id = worked.file.as_ref()?.id;
        if known.contains(&id) {
            return None;
        }
        known.push(id);
        Some((format!("sha256:{}", hex::encode(id)), worked.packed.blob_len))
    };
    let mut blob_of = blob_of;
    order
        .iter()
        .map(|(_, worked)| DataLayer {
            blob: blob_of(worked),
        })
        .collect()
}
