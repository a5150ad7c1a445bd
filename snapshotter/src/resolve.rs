//! From the name of an image to the one manifest to use: RAFS before plain OCI, for one platform.

use std::fmt;
use std::str::FromStr;

use oci_spec::image::{Descriptor, Digest, ImageManifest};
use proto::image::{ImageSource, RawManifest};
use serde::Deserialize;

use crate::label;

/// Feature that marks the RAFS manifest of an index.
const RAFS_OS_FEATURE: &str = "nydus.remoteimage.v1";
/// Artifact type that marks it in newer indexes.
const RAFS_ARTIFACT_TYPE: &str = "application/vnd.nydus.image.manifest.v1+json";

/// Why no manifest could be found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The image's place refused.
    #[error(transparent)]
    Source(#[from] proto::image::Error),
    /// A document is not what its type says.
    #[error("{what} {digest} cannot be read: {source}")]
    Document {
        /// `index` or `manifest`.
        what: &'static str,
        /// Its digest.
        digest: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// An index has nothing for the platform.
    #[error("the image has no manifest for {platform}; it has: {found}")]
    NoPlatform {
        /// What was wanted.
        platform: Platform,
        /// What is there.
        found: String,
    },
    /// The platform cannot be read.
    #[error("invalid platform {0:?}; hint: write it as linux/amd64 or linux/arm/v7")]
    InvalidPlatform(String),
}

/// A platform: `os/architecture[/variant]`, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
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
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parts: Vec<_> = text.split('/').map(str::to_owned).collect();
        let (os, architecture, variant) = match parts.as_slice() {
            _ if parts.iter().any(String::is_empty) => return Err(Error::InvalidPlatform(text.to_owned())),
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant.clone())),
            _ => return Err(Error::InvalidPlatform(text.to_owned())),
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
    /// The index has exactly one manifest for the platform, so that others who read it choose the same.
    pub unambiguous: bool,
}

impl Resolved {
    /// The layer that holds the bootstrap; `None` for a plain OCI image.
    pub fn bootstrap(&self) -> Option<&Descriptor> {
        let layers = self.manifest.layers().iter();
        layers
            .rev()
            .find(|layer| has_annotation(layer, label::NYDUS_BOOTSTRAP))
    }
}

/// Whether a layer descriptor carries an annotation.
pub fn has_annotation(descriptor: &Descriptor, key: &str) -> bool {
    descriptor
        .annotations()
        .as_ref()
        .is_some_and(|annotations| annotations.contains_key(key))
}

/// An index, as far as choosing needs it. (oci-spec's own type looks for `os_features`, not for `os.features`.)
#[derive(Debug, Deserialize)]
struct Index {
    manifests: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    digest: Digest,
    artifact_type: Option<String>,
    platform: Option<EntryPlatform>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct EntryPlatform {
    os: String,
    architecture: String,
    variant: Option<String>,
    #[serde(rename = "os.features", default)]
    os_features: Vec<String>,
}

/// Finds the manifest for a platform.
pub async fn resolve(source: &ImageSource, platform: &Platform) -> Result<Resolved, Error> {
    let root = source.root_manifest().await?;
    let (raw, unambiguous) = if root.is_index() {
        let index: Index = read("index", &root)?;
        let (entry, unambiguous) = choose(&index.manifests, platform)?;
        (source.manifest(&entry.digest).await?, unambiguous)
    } else {
        (root.clone(), true)
    };
    let manifest = read("manifest", &raw)?;
    Ok(Resolved {
        root,
        raw,
        manifest,
        unambiguous,
    })
}

fn read<T: serde::de::DeserializeOwned>(what: &'static str, raw: &RawManifest) -> Result<T, Error> {
    let read = serde_json::from_slice(&raw.bytes);
    read.map_err(|source| Error::Document {
        what,
        digest: raw.digest.to_string(),
        source,
    })
}

/// Chooses among the manifests of an index. Returns the choice and whether it was the only one.
fn choose<'a>(entries: &'a [Entry], platform: &Platform) -> Result<(&'a Entry, bool), Error> {
    let fitting: Vec<_> = entries.iter().filter(|entry| fits(entry, platform)).collect();
    let first = fitting.iter().find(|entry| is_rafs(entry)).or(fitting.first());
    match (first, entries) {
        (Some(first), _) => Ok((first, fitting.len() == 1)),
        // One manifest that does not say what it is for: layout folders have such.
        (None, [only]) if only.platform.is_none() => Ok((only, true)),
        (None, _) => {
            let found = entries.iter().filter_map(|entry| entry.platform.as_ref());
            let found: Vec<_> = found
                .map(|found| format!("{}/{}", found.os, found.architecture))
                .collect();
            Err(Error::NoPlatform {
                platform: platform.clone(),
                found: found.join(", "),
            })
        }
    }
}

fn fits(entry: &Entry, wanted: &Platform) -> bool {
    entry.platform.as_ref().is_some_and(|platform| {
        platform.os == wanted.os
            && platform.architecture == wanted.architecture
            && (wanted.variant.is_none() || platform.variant == wanted.variant)
    })
}

fn is_rafs(entry: &Entry) -> bool {
    let mut features = entry.platform.iter().flat_map(|platform| &platform.os_features);
    features.any(|feature| feature == RAFS_OS_FEATURE)
        || entry.artifact_type.as_deref() == Some(RAFS_ARTIFACT_TYPE)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn index(entries: &[&str]) -> Vec<Entry> {
        let entries: Vec<_> = entries
            .iter()
            .enumerate()
            .map(|(index, extra)| {
                format!(
                    r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,
                    "digest":"sha256:{index:064x}"{extra}}}"#
                )
            })
            .collect();
        serde_json::from_str(&format!("[{}]", entries.join(","))).unwrap()
    }

    const AMD64: &str = r#","platform":{"os":"linux","architecture":"amd64"}"#;
    const ARM64: &str = r#","platform":{"os":"linux","architecture":"arm64","variant":"v8"}"#;
    const RAFS: &str =
        r#","platform":{"os":"linux","architecture":"amd64","os.features":["nydus.remoteimage.v1"]}"#;
    const TYPED: &str = r#","artifactType":"application/vnd.nydus.image.manifest.v1+json",
        "platform":{"os":"linux","architecture":"amd64"}"#;

    #[rstest]
    #[case(&[AMD64, ARM64], "linux/amd64", Some((0, true)))]
    #[case(&[AMD64, ARM64], "linux/arm64", Some((1, true)))]
    #[case(&[AMD64, ARM64], "linux/arm64/v8", Some((1, true)))]
    #[case(&[AMD64, ARM64], "linux/arm64/v7", None)]
    #[case(&[AMD64, RAFS, ARM64], "linux/amd64", Some((1, false)))]
    #[case(&[AMD64, TYPED], "linux/amd64", Some((1, false)))]
    #[case(&[""], "linux/amd64", Some((0, true)))]
    #[case(&["", ""], "linux/amd64", None)]
    #[case(&[], "linux/amd64", None)]
    fn choices(#[case] entries: &[&str], #[case] platform: &str, #[case] wanted: Option<(usize, bool)>) {
        let manifests = index(entries);
        let chosen = choose(&manifests, &platform.parse().unwrap());
        let chosen = chosen.ok().map(|(descriptor, unambiguous)| {
            (
                manifests
                    .iter()
                    .position(|manifest| manifest == descriptor)
                    .unwrap(),
                unambiguous,
            )
        });
        assert_eq!(chosen, wanted);
    }

    #[rstest]
    #[case("linux")]
    #[case("linux/")]
    #[case("a/b/c/d")]
    fn no_platforms(#[case] text: &str) {
        assert!(matches!(text.parse::<Platform>(), Err(Error::InvalidPlatform(_))));
    }

    #[test]
    fn platforms_print_as_they_are_read() {
        for text in ["linux/amd64", "linux/arm/v7"] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }
    }
}
