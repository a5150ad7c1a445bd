//! The manifest and what lies beside the bootstrap: layers and hints.

use std::collections::HashSet;

use oci_spec::image::Descriptor;
use proto::lazy::LazyManifest;
use rafs::hints::Hints;

use crate::error::Error;
use crate::opened::{RafsImage, RafsParts};

/// What is wrong with the order and kinds of layers.
pub(super) fn layer_faults(all: &[Descriptor], parts: &LazyManifest) -> Vec<String> {
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
pub(super) async fn hint_fault(parts: &RafsParts) -> Result<Option<String>, Error> {
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
pub(super) fn unlisted_blobs(image: &RafsImage) -> Vec<String> {
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
