//! What to add to containerd's configuration, for its version.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// A containerd version, as far as it decides what to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// Oldest version with what a remote snapshotter needs.
const OLDEST: Version = Version { major: 1, minor: 6 };
/// From here proxy plugins may tell where their data lies.
const WITH_EXPORTS: Version = Version { major: 1, minor: 7 };
/// From here image settings of CRI have a section of their own.
const WITH_CRI_IMAGES: Version = Version { major: 2, minor: 0 };
/// From here the transfer service tells the snapshotter which image a layer belongs to.
const WITH_TRANSFER_LABELS: Version = Version { major: 2, minor: 1 };

/// Why a version cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// It cannot be read.
    #[error("{0:?} is not a containerd version; hint: write it as 1.7 or 2.1")]
    Unreadable(String),
    /// It is too old.
    #[error("containerd {0} is too old; hint: Slipway needs {OLDEST} or later")]
    TooOld(Version),
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for Version {
    type Err = VersionError;

    /// Reads `1.7`, `v2.1.4`, `1.6.20~ds1`.
    fn from_str(text: &str) -> Result<Self, VersionError> {
        let unreadable = || VersionError::Unreadable(text.to_owned());
        let mut numbers = text.trim().trim_start_matches('v').split('.');
        let mut number = || {
            let part = numbers.next()?;
            part.split(|c: char| !c.is_ascii_digit())
                .next()?
                .parse::<u32>()
                .ok()
        };
        let (major, minor) = (number().ok_or_else(unreadable)?, number().ok_or_else(unreadable)?);
        let version = Self { major, minor };
        if version < OLDEST {
            Err(VersionError::TooOld(version))
        } else {
            Ok(version)
        }
    }
}

/// Finds the version in what `containerd --version` prints: `containerd NAME VERSION REVISION`.
pub fn installed_version(output: &str) -> Result<Version, VersionError> {
    let unreadable = || VersionError::Unreadable(output.trim().to_owned());
    output.split_whitespace().nth(2).ok_or_else(unreadable)?.parse()
}

/// The lines to add, as a TOML file of its own that containerd can import. With `remap_ids`, versions that can map ids are
/// told that this snapshotter can.
pub fn render(version: Version, address: &Path, root: &Path, remap_ids: bool) -> String {
    let format = if version >= WITH_CRI_IMAGES { 3 } else { 2 };
    let mut text = format!(
        "# Slipway for containerd {version}. Save as /etc/containerd/conf.d/slipway.toml and add to\n\
         # /etc/containerd/config.toml:  imports = [\"/etc/containerd/conf.d/*.toml\"]\n\
         # (or merge it by hand), then restart containerd once.\n\
         version = {format}\n\n\
         [proxy_plugins.slipway]\n  type = \"snapshot\"\n  address = {}\n",
        quoted(address)
    );
    if remap_ids && version >= WITH_CRI_IMAGES {
        text += "  capabilities = [\"remap-ids\"]\n";
    }
    if version >= WITH_EXPORTS {
        text += &format!("  [proxy_plugins.slipway.exports]\n    root = {}\n", quoted(root));
        if version >= WITH_TRANSFER_LABELS {
            text += "    enable_remote_snapshot_annotations = \"true\"\n";
        }
    }
    text += "\n# Kubernetes (CRI)\n";
    text += if version >= WITH_TRANSFER_LABELS {
        // Its other key would switch CRI back to the old puller.
        "[plugins.\"io.containerd.cri.v1.images\"]\n  snapshotter = \"slipway\"\n"
    } else if version >= WITH_CRI_IMAGES {
        "[plugins.\"io.containerd.cri.v1.images\"]\n  snapshotter = \"slipway\"\n  \
         disable_snapshot_annotations = false\n"
    } else {
        "[plugins.\"io.containerd.grpc.v1.cri\".containerd]\n  snapshotter = \"slipway\"\n  \
         disable_snapshot_annotations = false\n"
    };
    if version >= WITH_TRANSFER_LABELS {
        text += &format!(
            "\n# ctr and other clients of the transfer service\n\
             [[plugins.\"io.containerd.transfer.v1.local\".unpack_config]]\n  platform = \"linux/{}\"\n  \
             snapshotter = \"slipway\"\n  differ = \"walking\"\n",
            proto::image::Platform::host().architecture
        );
    } else {
        text += "\n# ctr of this version tells a snapshotter nothing about the image: pull with `slipwayd pull`.\n";
    }
    text
}

/// A path as a TOML string. JSON's escapes are a subset of TOML's.
fn quoted(path: &Path) -> String {
    serde_json::Value::from(path.to_string_lossy()).to_string()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("1.6", (1, 6))]
    #[case("v1.7.24", (1, 7))]
    #[case("1.6.20~ds1", (1, 6))]
    #[case("2.1.0-rc.1", (2, 1))]
    fn versions(#[case] text: &str, #[case] (major, minor): (u32, u32)) {
        assert_eq!(text.parse(), Ok(Version { major, minor }));
    }

    #[rstest]
    #[case("")]
    #[case("2")]
    #[case("two.one")]
    fn no_versions(#[case] text: &str) {
        assert_eq!(
            text.parse::<Version>(),
            Err(VersionError::Unreadable(text.into()))
        );
    }

    #[test]
    fn old_versions_are_refused() {
        let version = Version { major: 1, minor: 5 };
        assert_eq!("1.5.9".parse::<Version>(), Err(VersionError::TooOld(version)));
    }

    #[test]
    fn the_installed_version_is_found() {
        let output = "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+b1\n";
        assert_eq!(installed_version(output), Ok(Version { major: 1, minor: 6 }));
        assert!(installed_version("nothing").is_err());
    }

    fn table(major: u32, minor: u32) -> toml::Table {
        table_with(major, minor, false)
    }

    fn table_with(major: u32, minor: u32, remap_ids: bool) -> toml::Table {
        let text = render(
            Version { major, minor },
            Path::new("/run/s.sock"),
            Path::new("/root dir"),
            remap_ids,
        );
        text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    #[rstest]
    #[case(1, 7, true, false)]
    #[case(2, 0, true, true)]
    #[case(2, 2, false, false)]
    fn mapping_ids_is_told_where_it_can_be_done(
        #[case] major: u32,
        #[case] minor: u32,
        #[case] remap_ids: bool,
        #[case] is_told: bool,
    ) {
        let table = table_with(major, minor, remap_ids);
        let told = table["proxy_plugins"]["slipway"].get("capabilities");
        let wanted = is_told.then(|| toml::Value::from(vec!["remap-ids"]));
        assert_eq!(told, wanted.as_ref());
    }

    #[rstest]
    #[case(1, 6, "io.containerd.grpc.v1.cri", false, false)]
    #[case(1, 7, "io.containerd.grpc.v1.cri", true, false)]
    #[case(2, 0, "io.containerd.cri.v1.images", true, false)]
    #[case(2, 1, "io.containerd.cri.v1.images", true, true)]
    #[case(2, 4, "io.containerd.cri.v1.images", true, true)]
    fn rendered(
        #[case] major: u32,
        #[case] minor: u32,
        #[case] cri: &str,
        #[case] exports: bool,
        #[case] transfer: bool,
    ) {
        let table = table(major, minor);
        let plugin = &table["proxy_plugins"]["slipway"];
        assert_eq!(plugin["type"].as_str(), Some("snapshot"));
        assert_eq!(plugin["address"].as_str(), Some("/run/s.sock"));
        let root = plugin.get("exports").and_then(|exports| exports["root"].as_str());
        assert_eq!(root, exports.then_some("/root dir"));
        let cri = table["plugins"][cri].as_table().unwrap();
        let cri = cri
            .get("containerd")
            .and_then(toml::Value::as_table)
            .unwrap_or(cri);
        assert_eq!(cri["snapshotter"].as_str(), Some("slipway"));
        let annotations = cri
            .get("disable_snapshot_annotations")
            .and_then(toml::Value::as_bool);
        assert_eq!(annotations, (!transfer).then_some(false));
        assert_eq!(
            table["plugins"].get("io.containerd.transfer.v1.local").is_some(),
            transfer
        );
        let flag = plugin
            .get("exports")
            .and_then(|e| e.get("enable_remote_snapshot_annotations"));
        assert_eq!(flag.and_then(toml::Value::as_str), transfer.then_some("true"));
    }
}
