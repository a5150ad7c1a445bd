//! The keys about what containers' root file systems are made of.

use serde::{Deserialize, Serialize};

/// Overlayfs of containers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Overlay {
    /// Where overlayfs keeps its marks.
    pub userxattr: UserXattr,
    /// Whether ids are mapped where containerd asks for it.
    pub remap_ids: bool,
}

/// Whether overlayfs keeps its marks in `user.overlay.*` instead of `trusted.overlay.*`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserXattr {
    /// Where the daemon runs in a user namespace, which may not write the other kind.
    #[default]
    Auto,
    /// Yes.
    On,
    /// No.
    Off,
}

impl UserXattr {
    /// Decides, where need be by `uid_map`, the text of `/proc/self/uid_map`.
    pub fn is_on(self, uid_map: &str) -> bool {
        // The first namespace maps all ids to themselves.
        let is_first = || uid_map.split_ascii_whitespace().eq(["0", "0", "4294967295"]);
        match self {
            Self::On => true,
            Self::Off => false,
            Self::Auto => !uid_map.is_empty() && !is_first(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_looks_at_the_namespace() {
        let first = "         0          0 4294967295\n";
        let inner = "         0     100000      65536\n";
        for (asked, first_is_on, inner_is_on) in [
            (UserXattr::Auto, false, true),
            (UserXattr::On, true, true),
            (UserXattr::Off, false, false),
        ] {
            assert_eq!(
                (asked.is_on(first), asked.is_on(inner)),
                (first_is_on, inner_is_on)
            );
        }
        assert!(!UserXattr::Auto.is_on(""), "no such file: no such namespaces");
    }
}
