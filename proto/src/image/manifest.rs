//! Manifests and indexes as bytes.

use bytes::Bytes;
use oci_spec::image::{Digest, MediaType};
use serde::Deserialize;

use super::{Error, digest};

/// Manifests and indexes may be this long: the bound that registries themselves keep (4 MiB).
pub const MANIFEST_LEN_MAX: u64 = 4 << 20;

/// Docker's image manifest, version 2 schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's index ("manifest list").
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// A manifest, index or config as bytes whose digest was checked.
#[derive(Clone, Debug)]
pub struct RawManifest {
    /// Media type: of the reply, else of the document itself.
    pub media_type: MediaType,
    /// sha256 of `bytes` (or the digest that was asked for, when that is of another algorithm).
    pub digest: Digest,
    /// The document.
    pub bytes: Bytes,
}

impl RawManifest {
    /// Whether this is an index (OCI's or docker's) rather than an image manifest.
    pub fn is_index(&self) -> bool {
        is_index(&self.media_type)
    }

    /// Checks `bytes` against `expected` (when given) and settles the media type: `told`, else the document's own.
    pub(crate) fn checked(
        what: &str,
        bytes: Bytes,
        expected: Option<&Digest>,
        told: Option<MediaType>,
    ) -> Result<Self, Error> {
        if let Some(expected) = expected {
            digest::check(what, &bytes, expected)?;
        }
        let media_type = match told.filter(is_manifest) {
            Some(media_type) => media_type,
            None => media_type_of(&bytes).map_err(|reason| Error::invalid(what, &reason))?,
        };
        let digest = expected.cloned().unwrap_or_else(|| digest::sha256_of(&bytes));
        Ok(Self {
            media_type,
            digest,
            bytes,
        })
    }
}

/// Whether `media_type` is an index of OCI or docker.
pub fn is_index(media_type: &MediaType) -> bool {
    matches!(media_type, MediaType::ImageIndex) || media_type.as_ref() == DOCKER_INDEX
}

/// Whether `media_type` says more than "some JSON".
fn is_manifest(media_type: &MediaType) -> bool {
    is_index(media_type)
        || matches!(media_type, MediaType::ImageManifest | MediaType::ArtifactManifest)
        || media_type.as_ref() == DOCKER_MANIFEST
}

/// The members that tell manifests and indexes apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    media_type: Option<MediaType>,
    config: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
}

fn media_type_of(bytes: &[u8]) -> Result<MediaType, String> {
    let shape: Shape = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    match (shape.media_type, shape.manifests, shape.config) {
        (Some(media_type), _, _) => Ok(media_type),
        (None, Some(_), None) => Ok(MediaType::ImageIndex),
        (None, None, Some(_)) => Ok(MediaType::ImageManifest),
        _ => Err("neither an image manifest nor an index".to_owned()),
    }
}
