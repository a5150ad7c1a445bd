//! From the name of an image to the one manifest to use: RAFS before plain OCI, for one platform.

use oci_spec::image::ImageManifest;
use proto::image::{Error, ImageSource, Platform, RawManifest};
use proto::lazy::{self, LazyManifest, Prefer};

/// An image, resolved.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// What the name stands for: an index or the manifest itself.
    pub root: RawManifest,
    /// The chosen manifest.
    pub raw: RawManifest,
    /// The same, read.
    pub manifest: ImageManifest,
    /// Its layers by their part; `None` for a plain OCI image.
    pub lazy: Option<LazyManifest>,
    /// The index has exactly one manifest for the platform, so that others who read it choose the same.
    pub unambiguous: bool,
}

/// Finds the manifest for a platform.
///
/// # Errors
/// [`Error::NotFound`] when the image or one for the platform is not there, [`Error::Invalid`] when a document is not
/// what its type says, those of [`ImageSource::root_manifest`].
pub async fn resolve(source: &ImageSource, platform: &Platform) -> Result<Resolved, Error> {
    let root = source.root_manifest().await?;
    let (raw, unambiguous) = if root.is_index() {
        let platform = platform.to_oci();
        let chosen = lazy::choose(&root.bytes, &platform, Prefer::Rafs)?;
        let unambiguous = lazy::fitting_count(&root.bytes, &platform)? <= 1;
        (source.manifest(chosen.digest()).await?, unambiguous)
    } else {
        (root.clone(), true)
    };
    let manifest: ImageManifest = serde_json::from_slice(&raw.bytes).map_err(|error| Error::Invalid {
        what: format!("manifest {}", raw.digest),
        reason: error.to_string(),
    })?;
    Ok(Resolved {
        lazy: LazyManifest::parse(&manifest),
        root,
        raw,
        manifest,
        unambiguous,
    })
}
