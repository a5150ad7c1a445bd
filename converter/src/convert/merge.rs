//! Worked layers to one file system and its bootstrap.

use std::collections::HashMap;
use std::sync::Arc;

use rafs::BlobIndex;
use rafs::blob::BlobInfo;
use rafs::build::{self, BuildError};
use rafs::layout::BLOBS_MAX;
use rafs::tree::ChunkId;

use super::work::Worked;
use crate::error::Error;
use crate::overlay::Overlay;
use crate::pack::ChunkOptions;
use crate::prefetch::{Found, Prefetch};

/// A merged image.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) bootstrap: Vec<u8>,
    /// What is to be fetched ahead.
    pub(super) ahead: Found,
    /// Bytes of chunks that lie in more than one layer's blob and are referenced in the lowest only.
    pub(super) shared_len: u64,
}

/// Lays the layers over each other, lowest first. A chunk that a lower layer's blob has too is referenced there.
pub(super) fn merge(
    layers: &[(String, Arc<Worked>)],
    options: ChunkOptions,
    prefetch: &Prefetch,
) -> Result<Merged, Error> {
    let mut overlay = Overlay::default();
    let mut blobs = Blobs::default();
    for (digest, layer) in layers {
        let blob = layer.file.as_ref().and_then(|file| file.blob.as_ref());
        let chunks = match blob {
            Some(blob) => blobs.add(blob)?,
            None => Vec::new(),
        };
        let chunks: Vec<ChunkId> = layer
            .packed
            .chunk_of_slot
            .iter()
            .map(|chunk| chunks[*chunk as usize])
            .collect();
        overlay
            .apply(&layer.changes, &chunks)
            .map_err(|source| Error::Layer {
                layer: digest.clone(),
                source,
            })?;
    }
    let tree = overlay.finish();
    let ahead = prefetch.find(&tree)?;
    let image = build::Options {
        prefetch: ahead.inodes.clone(),
        ..options.image()
    };
    Ok(Merged {
        bootstrap: build::bootstrap(&tree, &blobs.blobs, &image)?,
        ahead,
        shared_len: blobs.shared_len,
    })
}

/// The blobs of the image and what is in them.
#[derive(Default)]
struct Blobs {
    blobs: Vec<BlobInfo>,
    index: HashMap<[u8; 32], BlobIndex>,
    first: HashMap<(rafs::Digest, u32), ChunkId>,
    shared_len: u64,
}

impl Blobs {
    /// Adds a layer's blob. Gives, by the chunk's number in it, the place to reference.
    fn add(&mut self, blob: &BlobInfo) -> Result<Vec<ChunkId>, BuildError> {
        let is_known = self.index.contains_key(&blob.id);
        if !is_known {
            let index = self.blobs.len();
            let too_many = BuildError::TooLarge {
                what: "the number of layers with data",
                limit: BLOBS_MAX as u64,
            };
            let index = u16::try_from(index).ok().filter(|_| index < BLOBS_MAX);
            self.index.insert(blob.id, BlobIndex(index.ok_or(too_many)?));
            self.blobs.push(blob.clone());
        }
        let own = self.index[&blob.id];
        let chunks = blob.chunks.iter().map(|chunk| {
            let key = (chunk.digest, chunk.uncompressed.len);
            let place = *self.first.entry(key).or_insert(ChunkId {
                blob: own,
                index: chunk.index,
            });
            if !is_known && place.blob != own {
                self.shared_len += u64::from(chunk.uncompressed.len);
            }
            place
        });
        Ok(chunks.collect())
    }
}

#[cfg(test)]
mod tests {
    use rafs::blob::{BlobBuilder, BlobOptions};
    use rafs::chunk::encode;
    use rafs::{Compressor, Digester};
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn blob(number: u32) -> BlobInfo {
        let options = BlobOptions {
            chunk_size: 4096,
            compressor: Compressor::None,
            digester: Digester::Sha256,
        };
        let mut builder = BlobBuilder::new(options);
        let chunk = encode(
            number.to_le_bytes().to_vec(),
            Compressor::None,
            0,
            Digester::Sha256,
        );
        builder.push(&chunk).unwrap();
        let hash = Sha256::new_with_prefix(&chunk.data);
        builder.finish(hash).unwrap().info
    }

    #[test]
    fn more_blobs_than_the_format_has_numbers_for_are_refused() {
        let mut blobs = Blobs::default();
        for number in 0..254 {
            blobs.add(&blob(number)).unwrap();
        }
        // One that is there already is none more.
        blobs.add(&blob(0)).unwrap();
        let error = blobs.add(&blob(254)).unwrap_err();
        assert!(
            matches!(error, BuildError::TooLarge { limit: 254, .. }),
            "{error}"
        );
    }
}
