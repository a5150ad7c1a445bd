//! Platforms: `os/arch[/variant]`.

use std::fmt;
use std::str::FromStr;

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

    /// The same, as documents of images have it.
    pub fn to_oci(&self) -> oci_spec::image::Platform {
        let mut platform = oci_spec::image::Platform::default();
        platform
            .set_os(self.os.as_str().into())
            .set_architecture(self.architecture.as_str().into())
            .set_variant(self.variant.clone());
        platform
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

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant
            .iter()
            .try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant.to_owned())),
            _ => return Err("expected OS/ARCH or OS/ARCH/VARIANT, such as linux/arm64"),
        };
        if parts.contains(&"") {
            return Err("a part of the platform is empty");
        }
        // The names people read in `uname` mean what Go calls otherwise.
        let architecture = match architecture {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        // Indexes name the only variant of 64-bit ARM or leave it out; left out it fits both.
        let variant = variant.filter(|variant| (architecture, variant.as_str()) != ("arm64", "v8"));
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

    fn accepts(wanted: &str, found: &str) -> bool {
        let found: Platform = found.parse().unwrap();
        let wanted: Platform = wanted.parse().unwrap();
        wanted.accepts(&found.os, &found.architecture, found.variant.as_deref())
    }

    #[test]
    fn variants_matter_where_both_are_said() {
        assert!(accepts("linux/arm64", "linux/arm64/v8"));
        assert!(accepts("linux/arm64/v8", "linux/arm64"));
        assert!(accepts("linux/arm/v6", "linux/arm/v6"));
        assert!(!accepts("linux/arm/v6", "linux/arm/v7"));
        assert!(!accepts("linux/amd64", "linux/arm64"));
        assert!(!accepts("windows/amd64", "linux/amd64"));
    }

    #[test]
    fn text_forms() {
        assert_eq!(
            "linux/aarch64".parse::<Platform>().unwrap().to_string(),
            "linux/arm64"
        );
        for text in ["linux/amd64", "linux/arm/v7"] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }
        for bad in ["linux", "linux/", "a/b/c/d", ""] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }
}
