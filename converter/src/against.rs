//! Comparing a RAFS image with the image it was made of: the layers are merged again, in memory, without their
//! contents, of which only the digests of the chunks are kept.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use oci_spec::image::Descriptor;
use proto::image::{ImageSource, Platform};
use rafs::tree::ChunkId;
use rafs::{BlobIndex, Digest, Digester, Image, Tree};
use serde::Serialize;

use crate::decompress::Decoder;
use crate::error::{Error, LayerError};
use crate::layer::{self, Budget, Change};
use crate::origin::Origin;
use crate::overlay::Overlay;
use crate::pipe::{HashReader, PipeReader, pipe, pump};
use crate::tarball::{Reader, TarError};
use crate::task;

mod compare;

/// Layers read at the same time, as in conversions.
const LAYER_COUNT_AT_ONCE: usize = 4;
/// Differences that are listed: nobody reads more, and another image differs everywhere.
pub const DIFFERENCES_MAX: usize = 1000;

/// How two images differ.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Differences {
    /// Paths compared: all of both images, the root included.
    pub path_count: u64,
    /// How many differences there are.
    pub count: u64,
    /// The first [`DIFFERENCES_MAX`], by path.
    pub first: Vec<Difference>,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// From the root; bytes that are no printable ASCII are escaped.
    pub path: String,
    /// What differs: `missing`, `added`, `type`, `mode`, `uid`, `gid`, `mtime`, `xattrs`, `target`, `rdev`, `links`,
    /// `size` or `content`.
    pub what: &'static str,
    /// What the original has.
    pub original: String,
    /// What the RAFS image has.
    pub rafs: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.what {
            "missing" | "added" => write!(f, "{}: {}", self.path, self.what),
            what => write!(
                f,
                "{}: {what} is {}, but {} in the original",
                self.path, self.rafs, self.original
            ),
        }
    }
}

/// The file system of an image, with the digests of its contents.
struct Original {
    tree: Tree,
    /// By layer, which stands in for the blob, and by slot.
    digests: Vec<Vec<(Digest, u32)>>,
}

/// Compares `image` with the plain image at `source`.
pub async fn compare(
    image: &Image<Bytes>,
    source: &ImageSource,
    platform: Option<&Platform>,
) -> Result<Differences, Error> {
    let origin = Origin::find(source, platform).await?;
    let cutting = Cutting {
        chunk_size: image.chunk_size(),
        digester: digester(image)?,
        budget: Arc::default(),
    };
    let layers: Vec<(String, Read)> = stream::iter(&origin.layers)
        .map(|(descriptor, diff_id)| read(source, descriptor, diff_id.to_string(), cutting.clone()))
        .buffered(LAYER_COUNT_AT_ONCE)
        .try_collect()
        .await?;
    let mut overlay = Overlay::default();
    let mut digests = Vec::with_capacity(layers.len());
    for (number, (layer, read)) in (0u16..).zip(layers) {
        let blob = BlobIndex(number);
        let chunks: Vec<ChunkId> = (0u32..)
            .zip(&read.digests)
            .map(|(index, _)| ChunkId { blob, index })
            .collect();
        overlay
            .apply(&read.changes, &chunks)
            .map_err(|source| Error::Layer { layer, source })?;
        digests.push(read.digests);
    }
    let original = Original {
        tree: overlay.finish(),
        digests,
    };
    compare::compare(&original, image).map_err(|source| Error::Bootstrap {
        place: "the image".to_owned(),
        source,
    })
}

/// The digest function of the image's chunks. An image without chunks has none, and any will do.
fn digester(image: &Image<Bytes>) -> Result<Digester, Error> {
    let mut digesters = image.blobs().iter().map(|blob| blob.digester);
    let first = digesters.next().unwrap_or(Digester::Sha256);
    match digesters.all(|other| other == first) {
        true => Ok(first),
        false => Err(Error::NotRafs {
            place: "the image".to_owned(),
            reason: "its blobs use different digest functions, which cannot be compared with an original",
        }),
    }
}

/// How contents are cut and hashed: as in the image.
#[derive(Clone)]
struct Cutting {
    chunk_size: u32,
    digester: Digester,
    /// Memory for the members of all layers.
    budget: Arc<Budget>,
}

/// A layer that was read.
struct Read {
    changes: Vec<Change>,
    /// Digest and length of each piece of content, by slot.
    digests: Vec<(Digest, u32)>,
}

async fn read(
    source: &ImageSource,
    descriptor: &Descriptor,
    diff_id: String,
    cutting: Cutting,
) -> Result<(String, Read), Error> {
    let layer = descriptor.digest().to_string();
    let stream = source.blob(descriptor).await?;
    let (pieces, pipe) = pipe();
    let reader = tokio::task::spawn_blocking(move || read_layer(pipe, &diff_id, &cutting));
    let pumped = pump(stream, pieces).await;
    let read = task::joined(reader).await?;
    pumped?;
    match read {
        Ok(read) => Ok((layer, read)),
        Err(source) => Err(Error::Layer { layer, source }),
    }
}

fn read_layer(mut pipe: PipeReader, diff_id: &str, cutting: &Cutting) -> Result<Read, LayerError> {
    let mut digests = Vec::new();
    let mut reader = Reader::new(HashReader::new(Decoder::new(&mut pipe)?));
    let changes = layer::read(&mut reader, cutting.chunk_size, &cutting.budget, |cut| {
        let len = u32::try_from(cut.content.len()).expect("no longer than a chunk");
        digests.push((cutting.digester.digest(&cut.content), len));
        Ok(())
    })?;
    let offset = reader.offset();
    let rest = reader.into_inner().finish();
    let (_, hash) = rest.map_err(|source| TarError::Io { offset, source })?;
    let actual = format!("sha256:{}", hex::encode(hash));
    if actual != diff_id {
        return Err(LayerError::DiffId {
            expected: diff_id.to_owned(),
            actual,
        });
    }
    Ok(Read { changes, digests })
}
