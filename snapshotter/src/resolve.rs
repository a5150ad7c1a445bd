//! From the name of an image to the one manifest to use: RAFS before plain OCI, for one platform.

use std::fmt;
use std::str::FromStr;

use oci_spec::image::ImageManifest;
use proto::image::{Error, ImageSource, RawManifest};
use proto::lazy::{self, LazyManifest, Prefer};

/// A text is no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid platform {0:?}; hint: write it as linux/amd64 or linux/arm/v7")]
pub struct InvalidPlatform(String);

/// A platform: `os/architecture[/variant]`, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    /// The same, as documents of images have it.
    fn to_oci(&self) -> oci_spec::image::Platform {
        let mut platform = oci_spec::image::Platform::default();
        platform
            .set_os(self.os.as_str().into())
            .set_architecture(self.architecture.as_str().into())
            .set_variant(self.variant.clone());
        platform
    }
}

impl Default for Platform {
    /// This machine.
    fn default() -> Self {
        Self {
            os: "linux".to_owned(),
            architecture: host_architecture().to_owned(),
            variant: None,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant
            .as_ref()
            .map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let parts: Vec<_> = text.split('/').map(str::to_owned).collect();
        let (os, architecture, variant) = match parts.as_slice() {
            _ if parts.iter().any(String::is_empty) => return Err(InvalidPlatform(text.to_owned())),
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant.clone())),
            _ => return Err(InvalidPlatform(text.to_owned())),
        };
        Ok(Self {
            os: os.clone(),
            architecture: architecture.clone(),
            variant,
        })
    }
}

/// This machine's architecture, in Go's words.
pub fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("linux")]
    #[case("linux/")]
    #[case("a/b/c/d")]
    fn no_platforms(#[case] text: &str) {
        assert!(text.parse::<Platform>().is_err());
    }

    #[test]
    fn platforms_print_as_they_are_read() {
        for text in ["linux/amd64", "linux/arm/v7"] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }
    }
}
