//! Platforms: `os/arch[/variant]`, and the best match in an index.

use std::fmt;
use std::str::FromStr;

use oci_spec::image::{Descriptor, ImageIndex};

use crate::error::{Error, Refusal};

/// What an image runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// Such as `linux`.
    pub os: String,
    /// Go's name, such as `amd64`.
    pub architecture: String,
    /// Such as `v8`.
    pub variant: Option<String>,
}

impl Platform {
    /// Linux on this machine's processor.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", None),
            "arm" => ("arm", Some("v7")),
            "powerpc64" => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        Platform {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        }
    }

    /// Whether an image that says `os/architecture[/variant]` of itself is meant. An unsaid variant matches all.
    pub fn accepts(&self, os: &str, architecture: &str, variant: Option<&str>) -> bool {
        let variant = variant.or(default_variant(architecture));
        let wanted = self.variant.as_deref().or(default_variant(&self.architecture));
        self.os == os
            && self.architecture == architecture
            && (wanted == variant || self.variant.is_none() || variant.is_none())
    }

    /// The image of an index to take: one of exactly this variant before others.
    pub(crate) fn choose<'a>(&self, what: &str, index: &'a ImageIndex) -> Result<&'a Descriptor, Error> {
        let matching = index.manifests().iter().filter(|descriptor| {
            descriptor.platform().as_ref().is_some_and(|platform| {
                let (os, architecture) = (platform.os().to_string(), platform.architecture().to_string());
                self.accepts(&os, &architecture, platform.variant().as_deref())
            })
        });
        let is_exact = |descriptor: &Descriptor| {
            descriptor
                .platform()
                .as_ref()
                .is_some_and(|platform| platform.variant() == &self.variant)
        };
        // `max_by_key` takes the last of equals, an index means the first.
        matching
            .rev()
            .max_by_key(|descriptor| is_exact(descriptor))
            .ok_or_else(|| Error::Refused {
                what: what.to_owned(),
                reason: Refusal::NoPlatform {
                    wanted: self.to_string(),
                    available: available(index),
                },
            })
    }
}

/// What an architecture's images mean that name no variant.
fn default_variant(architecture: &str) -> Option<&'static str> {
    match architecture {
        "arm64" => Some("v8"),
        "arm" => Some("v7"),
        _ => None,
    }
}

fn available(index: &ImageIndex) -> String {
    let platforms = index
        .manifests()
        .iter()
        .filter_map(|descriptor| descriptor.platform().as_ref());
    let named: Vec<String> = platforms
        .map(|platform| Platform {
            os: platform.os().to_string(),
            architecture: platform.architecture().to_string(),
            variant: platform.variant().clone(),
        })
        // Build tools list their attestations so.
        .filter(|platform| platform.os != "unknown")
        .map(|platform| platform.to_string())
        .collect();
    match named.is_empty() {
        true => "none".to_owned(),
        false => named.join(", "),
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant
            .iter()
            .try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant.to_owned())),
            _ => return Err("expected OS/ARCH or OS/ARCH/VARIANT, such as linux/arm64".to_owned()),
        };
        if parts.contains(&"") {
            return Err("a part of the platform is empty".to_owned());
        }
        // The names people read in `uname` mean what Go calls otherwise.
        let architecture = match architecture {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Ok(Platform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(platforms: &[&str]) -> ImageIndex {
        let manifests: Vec<_> = platforms
            .iter()
            .enumerate()
            .map(|(number, platform)| {
                let platform: Platform = platform.parse().unwrap();
                serde_json::json!({
                    "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": number + 1,
                    "digest": format!("sha256:{:064x}", number),
                    "platform": {"os": platform.os, "architecture": platform.architecture, "variant": platform.variant},
                })
            })
            .collect();
        serde_json::from_value(serde_json::json!({"schemaVersion": 2, "manifests": manifests})).unwrap()
    }

    fn chosen(wanted: &str, platforms: &[&str]) -> Option<u64> {
        let index = index(platforms);
        let wanted: Platform = wanted.parse().unwrap();
        wanted
            .choose("index", &index)
            .ok()
            .map(|descriptor| descriptor.size() - 1)
    }

    #[test]
    fn the_best_match_is_chosen() {
        assert_eq!(chosen("linux/amd64", &["linux/arm64", "linux/amd64"]), Some(1));
        assert_eq!(chosen("linux/arm64", &["linux/amd64", "linux/arm64/v8"]), Some(1));
        assert_eq!(chosen("linux/arm64/v8", &["linux/arm64", "linux/amd64"]), Some(0));
        assert_eq!(chosen("linux/arm/v6", &["linux/arm/v7", "linux/arm/v6"]), Some(1));
        assert_eq!(chosen("linux/amd64", &["linux/amd64", "linux/amd64"]), Some(0));
        assert_eq!(chosen("linux/s390x", &["linux/amd64"]), None);
        assert_eq!(chosen("windows/amd64", &["linux/amd64"]), None);
    }

    #[test]
    fn what_is_offered_is_said() {
        let index = index(&["linux/amd64", "unknown/unknown", "linux/arm/v7"]);
        let error = "linux/s390x"
            .parse::<Platform>()
            .unwrap()
            .choose("the index", &index)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot convert the index: no image for linux/s390x; there are: linux/amd64, linux/arm/v7"
        );
    }

    #[test]
    fn text_forms() {
        assert_eq!(
            "linux/aarch64".parse::<Platform>().unwrap().to_string(),
            "linux/arm64"
        );
        for bad in ["linux", "linux/", "a/b/c/d", ""] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }
}
