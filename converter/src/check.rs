//! Checking a RAFS image: the manifest's shape, the bootstrap, the blobs, and on request every chunk.

use std::collections::HashSet;
use std::sync::Arc;

use futures::StreamExt;
use oci_spec::image::{Descriptor, Digest};
use proto::lazy::LazyManifest;
use rafs::hints::Hints;
use rafs::{BlobIndex, ChunkRef, Codec, Image};
use serde::Serialize;

use crate::against::Differences;
use crate::error::Error;
use crate::fetch;
use crate::opened::{RafsImage, RafsParts};

/// What a check looked at and what it found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Findings {
    /// Names the superblock counts.
    pub inode_count: u64,
    /// Blobs in the blob table.
    pub blob_count: u64,
    /// Chunks that were read and verified; 0 unless that was asked for.
    pub chunk_count: u64,
    /// What is wrong, one sentence each. Empty: nothing.
    pub faults: Vec<String>,
    /// How the image differs from its original, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub differences: Option<Differences>,
}

/// Checks a bootstrap alone, all of it that can be read. Nothing is counted in one that cannot be opened.
pub fn check_bootstrap(bytes: &[u8]) -> Result<Findings, rafs::Error> {
    let faults = rafs::image::check(bytes)?;
    let opened = Image::open(bytes);
    Ok(Findings {
        inode_count: opened.as_ref().map_or(0, Image::inode_count),
        blob_count: opened.as_ref().map_or(0, |image| image.blobs().len() as u64),
        chunk_count: 0,
        faults: faults.iter().map(ToString::to_string).collect(),
        differences: None,
    })
}

/// What a failure means as an answer: `None` if the image or file could not be looked at, or is no RAFS v6 at all.
pub fn damage(error: &Error) -> Option<Findings> {
    use proto::image::Error::{DigestMismatch, LengthMismatch};
    match error {
        Error::Image(mismatch @ (DigestMismatch { .. } | LengthMismatch { .. })) => Some(Findings {
            faults: vec![mismatch.to_string()],
            ..Findings::default()
        }),
        Error::Bootstrap {
            source: source @ rafs::Error::Corrupt { .. },
            ..
        } => Some(Findings {
            faults: vec![source.to_string()],
            ..Findings::default()
        }),
        _ => None,
    }
}

/// Checks an image where it lies. `with_data`: fetches and verifies every chunk.
///
/// Blobs are looked at only if the bootstrap can be opened.
pub async fn check_image(parts: RafsParts, with_data: bool) -> Result<Findings, Error> {
    let mut findings = check_bootstrap(&parts.bootstrap).map_err(|source| Error::Bootstrap {
        place: parts.place.clone(),
        source,
    })?;
    findings
        .faults
        .extend(manifest_faults(parts.found.manifest.layers(), &parts.layers));
    findings.faults.extend(hint_fault(&parts).await?);
    // Why it cannot be opened is among the faults.
    let Ok(image) = parts.open() else {
        return Ok(findings);
    };
    let image = Arc::new(image);
    findings.faults.extend(unlisted_blobs(&image));
    let mut sound = Vec::new();
    for number in 0..image.bootstrap.blobs().len() {
        let blob = BlobIndex(u16::try_from(number).map_err(|_| too_many_blobs())?);
        match blob_fault(&image, blob).await? {
            Some(fault) => findings.faults.push(fault),
            None => sound.push(blob),
        }
    }
    if with_data {
        // Chunks of missing blobs would only repeat what is known.
        verify_chunks(image, &sound, &mut findings).await?;
    }
    Ok(findings)
}

fn too_many_blobs() -> Error {
    Error::NotRafs {
        place: "the blob table".to_owned(),
        reason: "it lists more blobs than the format allows",
    }
}

/// What is wrong with the order and kinds of layers.
fn manifest_faults(all: &[Descriptor], parts: &LazyManifest) -> Vec<String> {
    let mut faults = Vec::new();
    if Some(&parts.bootstrap) != all.last() {
        faults.push("manifest: the bootstrap is not the last layer".to_owned());
    }
    let listed: HashSet<&str> = parts.blobs.iter().map(|layer| layer.digest().digest()).collect();
    let is_strange =
        |layer: &&Descriptor| **layer != parts.bootstrap && !listed.contains(layer.digest().digest());
    let strangers = all.iter().filter(is_strange);
    faults.extend(
        strangers.map(|layer| format!("manifest: layer {} is neither data nor bootstrap", layer.digest())),
    );
    faults
}

/// What is wrong with the hints.
async fn hint_fault(parts: &RafsParts) -> Result<Option<String>, Error> {
    let text = match parts.hints().await {
        Ok(text) => text,
        Err(Error::Image(error @ proto::image::Error::TooLarge { .. })) => {
            return Ok(Some(error.to_string()));
        }
        Err(error) => return Err(error),
    };
    let read = text.map(|text| Hints::parse(&text)).transpose();
    Ok(read.err().map(|error| format!("hints: {error}")))
}

/// Blobs of the bootstrap that no layer of the manifest is.
fn unlisted_blobs(image: &RafsImage) -> Vec<String> {
    let layers = image.layers.blobs.iter();
    let listed: HashSet<&str> = layers.map(|layer| layer.digest().digest()).collect();
    // Of blobs that refer to a layer of the original image, the layer of their chunk infos stands in the manifest.
    let is_listed = |blob: &rafs::image::Blob| {
        let meta = blob.meta_blob.as_ref().map(|meta| meta.id.as_str());
        [Some(blob.id.as_str()), meta]
            .into_iter()
            .flatten()
            .any(|id| listed.contains(id))
    };
    let unlisted = image.bootstrap.blobs().iter().filter(|blob| !is_listed(blob));
    let fault = |blob: &rafs::image::Blob| {
        format!(
            "manifest: blob {} of the bootstrap is not among the layers",
            blob.id
        )
    };
    unlisted.map(fault).collect()
}

/// Whether a blob is there, as long as the manifest says, and long enough for its chunks.
async fn blob_fault(image: &RafsImage, blob: BlobIndex) -> Result<Option<String>, Error> {
    let table = &image.bootstrap.blobs()[usize::from(blob.0)];
    let digest: Digest = image.blob_digest(blob)?;
    let len = match image.source.blob_len(&digest).await {
        Ok(len) => len,
        Err(proto::image::Error::NotFound { .. }) => return Ok(Some(format!("blob {}: missing", table.id))),
        Err(error) => return Err(error.into()),
    };
    let chunks = image.bootstrap.chunks(blob).filter_map(Result::ok);
    let alone = chunks.filter(|chunk| chunk.codec != Codec::Shared);
    let needed = alone.map(compressed_end).max().unwrap_or(0);
    let needed = needed.max(table.compressed_size);
    let mut layers = image.layers.blobs.iter();
    let listed = layers
        .find(|layer| *layer.digest() == digest)
        .map(Descriptor::size);
    Ok(match listed {
        _ if len < needed => Some(format!(
            "blob {}: {len} bytes, the bootstrap needs {needed}",
            table.id
        )),
        Some(listed) if listed != len => Some(format!(
            "blob {}: {len} bytes, the manifest says {listed}",
            table.id
        )),
        _ => None,
    })
}

fn compressed_end(chunk: ChunkRef) -> u64 {
    chunk
        .compressed
        .offset
        .saturating_add(u64::from(chunk.compressed.len))
}

/// Reads every chunk of some blobs, blob by blob in the order it lies there.
async fn verify_chunks(
    image: Arc<RafsImage>,
    blobs: &[BlobIndex],
    findings: &mut Findings,
) -> Result<(), Error> {
    let mut wanted = Vec::new();
    for &blob in blobs {
        match image.units(blob).await {
            Ok(_) => wanted.extend(image.bootstrap.chunks(blob).filter_map(Result::ok)),
            // Without its chunk infos no chunk of the blob can be read: one fault says it for all.
            Err(Error::BlobMeta { blob, source }) => {
                findings.faults.push(format!("blob {blob}: {source}"));
            }
            Err(error) => return Err(error),
        }
    }
    // Numbers follow the order in which chunks lie in the blob; those that share a unit stand together.
    wanted.sort_by_key(|chunk| (chunk.blob, chunk.index));
    let mut chunks = std::pin::pin!(fetch::fetch(Arc::clone(&image), wanted));
    while let Some(decoded) = chunks.next().await {
        match decoded? {
            (_, Ok(_)) => findings.chunk_count += 1,
            (chunk, Err(fault)) => {
                let blob = &image.bootstrap.blobs()[usize::from(chunk.blob.0)].id;
                findings
                    .faults
                    .push(format!("blob {blob}: chunk {}: {fault}", chunk.index));
            }
        }
    }
    Ok(())
}
