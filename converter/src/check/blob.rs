//! The files of a blob: whether they are there, as long as they should be.

use std::collections::HashSet;

use oci_spec::image::{Descriptor, Digest};
use proto::image::ImageSource;
use proto::lazy::LazyManifest;
use rafs::{BlobIndex, ChunkRef, Codec};

use crate::error::Error;
use crate::opened::RafsImage;

/// A file that a blob of the blob table needs.
pub(super) struct BlobFile {
    pub(super) digest: Digest,
    /// The blob of the blob table; `None` if the file is a layer that the image does not use.
    pub(super) blob: Option<BlobIndex>,
    /// Whether the chunks are in it.
    pub(super) has_chunks: bool,
    /// Whether the chunk infos are in it.
    pub(super) has_infos: bool,
    /// Bytes that it has at least.
    needed: u64,
}

impl BlobFile {
    /// A fault of this file.
    pub(super) fn fault(&self, what: impl std::fmt::Display) -> String {
        format!("blob {}: {what}", self.digest.digest())
    }
}

/// What there is of a file.
pub(super) struct Presence {
    /// Its length, if it is there.
    pub(super) len: Option<u64>,
    /// What is wrong with that.
    pub(super) fault: Option<String>,
}

/// The files of a blob: one, or two where the chunk infos are separate.
pub(super) fn files(image: &RafsImage, blob: BlobIndex) -> Result<Vec<BlobFile>, Error> {
    let table = &image.bootstrap.blobs()[usize::from(blob.0)];
    let (_, infos) = table.meta_range();
    let chunks = image.bootstrap.chunks(blob).filter_map(Result::ok);
    let alone = chunks.filter(|chunk| chunk.codec != Codec::Shared);
    let chunks_end = alone.map(compressed_end).max().unwrap_or(0);
    let separate = image.infos_digest(blob)?;
    let own = BlobFile {
        blob: Some(blob),
        digest: image.blob_digest(blob)?,
        has_chunks: true,
        has_infos: separate.is_none(),
        needed: chunks_end.max(table.compressed_size),
    };
    let separate = separate.map(|digest| BlobFile {
        blob: Some(blob),
        digest,
        has_chunks: false,
        has_infos: true,
        needed: infos.end,
    });
    // First what is needed to read the other.
    Ok(separate.into_iter().chain([own]).collect())
}

/// Layers of the manifest that no blob of the blob table is: those without data, or whose data is hidden.
pub(super) fn unused(image: &RafsImage) -> Result<Vec<BlobFile>, Error> {
    let mut used = HashSet::new();
    for number in (0..).take(image.bootstrap.blobs().len()) {
        let files = files(image, BlobIndex(number))?;
        used.extend(files.into_iter().map(|file| file.digest));
    }
    let layers = layers(&image.layers).into_iter();
    Ok(layers.filter(|file| used.insert(file.digest.clone())).collect())
}

/// The data layers of a manifest, where nothing is known of what is in them.
pub(super) fn layers(manifest: &LazyManifest) -> Vec<BlobFile> {
    let file = |layer: &Descriptor| BlobFile {
        digest: layer.digest().clone(),
        blob: None,
        has_chunks: false,
        has_infos: false,
        needed: 0,
    };
    manifest.blobs.iter().map(file).collect()
}

/// Whether a file is there, as long as the manifest says, and long enough for what should be in it.
pub(super) async fn look(
    source: &ImageSource,
    layers: &LazyManifest,
    file: &BlobFile,
) -> Result<Presence, Error> {
    let len = match source.blob_len(&file.digest).await {
        Ok(len) => len,
        Err(proto::image::Error::NotFound { .. }) => {
            return Ok(Presence {
                len: None,
                fault: Some(file.fault("missing")),
            });
        }
        // Something lies there, but no file.
        Err(proto::image::Error::Invalid { reason, .. }) => {
            return Ok(Presence {
                len: None,
                fault: Some(file.fault(reason)),
            });
        }
        Err(error) => return Err(error.into()),
    };
    let mut layers = layers.blobs.iter();
    let listed = layers
        .find(|layer| *layer.digest() == file.digest)
        .map(Descriptor::size);
    let needed = file.needed;
    let fault = match listed {
        _ if len < needed => Some(file.fault(format_args!("{len} bytes, the bootstrap needs {needed}"))),
        Some(listed) if listed != len => {
            Some(file.fault(format_args!("{len} bytes, the manifest says {listed}")))
        }
        _ => None,
    };
    Ok(Presence {
        len: Some(len),
        fault,
    })
}

fn compressed_end(chunk: ChunkRef) -> u64 {
    chunk
        .compressed
        .offset
        .saturating_add(u64::from(chunk.compressed.len))
}
