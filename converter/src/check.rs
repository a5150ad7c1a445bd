//! Checking a RAFS image: the manifest's shape, the bootstrap, the blobs, and on request every byte of these.
//!
//! What is verified lies in `rafs`; here it is fetched.

use std::sync::Arc;

use proto::image::{ImageSource, Platform};
use proto::lazy::{LazyManifest, Prefer};
use rafs::{BlobIndex, Image};
use serde::Serialize;

use crate::against::Differences;
use crate::error::Error;
use crate::opened::{RafsImage, RafsParts};
use crate::origin;

mod blob;
mod chunk;
mod file;
mod layer;
mod manifest;

use blob::{BlobFile, Presence};
use file::Parts;

/// What a check looked at and what it found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Findings {
    /// Inodes the superblock counts; some writers count each name.
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

/// Checks an image where it lies. `with_data`: reads every blob whole, and verifies its digest, every chunk, and all
/// that lies between and behind them.
///
/// If the bootstrap cannot be opened, what is in the blobs is not known, and only their digests are verified.
pub async fn check_image(parts: RafsParts, with_data: bool) -> Result<Findings, Error> {
    let mut findings = check_bootstrap(&parts.bootstrap).map_err(|source| Error::Bootstrap {
        place: parts.place.clone(),
        source,
    })?;
    let layers = manifest::layer_faults(parts.found.manifest.layers(), &parts.layers);
    findings.faults.extend(layers);
    findings.faults.extend(manifest::hint_fault(&parts).await?);
    let (source, layers) = (parts.source.clone(), parts.layers.clone());
    let Ok(image) = parts.open() else {
        // Why it cannot be opened is among the faults.
        let faults = layers_alone(&source, &layers, with_data).await?;
        findings.faults.extend(faults);
        return Ok(findings);
    };
    let image = Arc::new(image);
    findings.faults.extend(manifest::unlisted_blobs(&image));
    for number in 0..image.bootstrap.blobs().len() {
        let blob = BlobIndex(u16::try_from(number).map_err(|_| too_many_blobs())?);
        // Of two files the first is needed to read the other.
        for file in blob::files(&image, blob)? {
            check_file(&image, &file, with_data, &mut findings).await?;
        }
    }
    for file in blob::unused(&image)? {
        check_file(&image, &file, with_data, &mut findings).await?;
    }
    Ok(findings)
}

/// Checks what can be checked of an image whose bootstrap layer cannot be read: whether its data layers are there, and on
/// request whether they are what their names say. Nothing is told of an image that is no RAFS image.
pub async fn check_layers(
    source: &ImageSource,
    platform: Option<&Platform>,
    with_data: bool,
) -> Result<Vec<String>, Error> {
    let found = origin::find(source, platform, Prefer::Rafs).await?;
    match LazyManifest::parse(&found.manifest) {
        Some(layers) => layers_alone(source, &layers, with_data).await,
        None => Ok(Vec::new()),
    }
}

async fn layers_alone(
    source: &ImageSource,
    layers: &LazyManifest,
    with_data: bool,
) -> Result<Vec<String>, Error> {
    let mut faults = Vec::new();
    for file in blob::layers(layers) {
        let Presence { len, fault } = blob::look(source, layers, &file).await?;
        faults.extend(fault);
        if let Some(len) = len.filter(|_| with_data) {
            faults.extend(file::read(source, &file, None, len).await?);
        }
    }
    Ok(faults)
}

/// Checks a file that the image is made of.
async fn check_file(
    image: &Arc<RafsImage>,
    file: &BlobFile,
    with_data: bool,
    findings: &mut Findings,
) -> Result<(), Error> {
    let Presence { len, fault } = blob::look(&image.source, &image.layers, file).await?;
    findings.faults.extend(fault);
    // Chunks of missing blobs would only repeat what is known.
    let Some(len) = len.filter(|_| with_data) else {
        return Ok(());
    };
    let parts = match file.blob {
        Some(blob) if file.has_infos => Some(Parts {
            image: Arc::clone(image),
            blob,
            infos: file::infos(image, blob, &mut findings.faults).await?,
        }),
        _ => None,
    };
    let may_have_bootstrap = parts.is_some() || file.blob.is_none();
    let faults = file::read(&image.source, file, parts, len).await?;
    findings.faults.extend(faults);
    if may_have_bootstrap && len > 0 {
        let faults = layer::check(&image.source, file, len).await?;
        findings.faults.extend(faults);
    }
    match file.blob {
        Some(blob) if file.has_chunks => chunk::verify(image, blob, len, findings).await,
        _ => Ok(()),
    }
}

fn too_many_blobs() -> Error {
    Error::NotRafs {
        place: "the blob table".to_owned(),
        reason: "it lists more blobs than the format allows",
    }
}
