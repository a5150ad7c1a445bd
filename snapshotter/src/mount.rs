//! Lists of mounts that containerd performs for a snapshot. Building one touches no disk.

mod remap;

use std::path::{Path, PathBuf};

use containerd_client::types::Mount;

use crate::config::Overlay;
use crate::store::Kind;

pub use remap::{Remap, check_remap};

/// The folders a snapshot's mounts are made of.
#[derive(Debug, Clone, Copy)]
pub struct Folders<'a> {
    /// The snapshot's own content.
    pub content: &'a Path,
    /// Working folder of its overlay, on the same file system.
    pub work: &'a Path,
    /// What it stands on, topmost first.
    pub lowers: &'a [PathBuf],
}

/// What overlayfs on this kernel, and with this configuration, needs to be told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OverlayOptions {
    /// The kernel knows the inode index, which must be off: lower folders are shared and get copied.
    pub index_off: bool,
    /// Its marks are kept in `user.overlay.*`.
    pub userxattr: bool,
}

impl OverlayOptions {
    /// Asks the running kernel where the configuration leaves it open.
    pub fn probe(overlay: &Overlay) -> Self {
        let uid_map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        Self {
            userxattr: overlay.userxattr.is_on(&uid_map),
            index_off: Path::new("/sys/module/overlay/parameters/index").exists(),
        }
    }
}

/// The mounts of an active snapshot or a view. A committed one has none, which the caller has checked.
///
/// * nothing below: the content itself, bound;
/// * a view of one folder: that folder, bound read only;
/// * a view of several: an overlay without an upper folder;
/// * an active snapshot: an overlay with its content as the upper folder.
///
/// With a `remap`, containerd is told how to map ids. From 2.1 on it clones, with mapped ids, the folder above all lower
/// folders, without what is mounted in there. A lower folder that stands alone is therefore named such that the folder
/// above it is itself: else containers on a mount would find it empty.
pub fn mounts(
    kind: Kind,
    folders: Folders<'_>,
    options: OverlayOptions,
    remap: Option<&Remap>,
) -> Vec<Mount> {
    let alone = match (remap, folders.lowers) {
        (Some(_), [lower]) => Some([lower.join(".")]),
        _ => None,
    };
    let lowers = alone.as_ref().map_or(folders.lowers, |alone| alone.as_slice());
    let mut mounts = unmapped(kind, Folders { lowers, ..folders }, options);
    for mount in &mut mounts {
        mount.options.extend(remap.into_iter().flat_map(Remap::options));
    }
    mounts
}

fn unmapped(kind: Kind, folders: Folders<'_>, options: OverlayOptions) -> Vec<Mount> {
    match (kind, folders.lowers) {
        (Kind::Active, []) => vec![bind(folders.content, "rw")],
        (_, []) => vec![bind(folders.content, "ro")],
        (Kind::Active, lowers) => {
            let own = [
                option("workdir", folders.work),
                option("upperdir", folders.content),
            ];
            vec![overlay(lowers, own, options)]
        }
        (_, [lower]) => vec![bind(lower, "ro")],
        (_, lowers) => vec![overlay(lowers, [], options)],
    }
}

fn bind(source: &Path, access: &str) -> Mount {
    Mount {
        r#type: "bind".to_owned(),
        source: source.to_string_lossy().into_owned(),
        target: String::new(),
        options: vec![access.to_owned(), "rbind".to_owned()],
    }
}

fn overlay(
    lowers: &[PathBuf],
    own: impl IntoIterator<Item = String>,
    overlay_options: OverlayOptions,
) -> Mount {
    let lowers: Vec<_> = lowers.iter().map(|lower| lower.to_string_lossy()).collect();
    let index = overlay_options.index_off.then(|| "index=off".to_owned());
    let userxattr = overlay_options.userxattr.then(|| "userxattr".to_owned());
    let lowerdir = format!("lowerdir={}", lowers.join(":"));
    Mount {
        r#type: "overlay".to_owned(),
        source: "overlay".to_owned(),
        target: String::new(),
        options: (index.into_iter().chain(own).chain([lowerdir]).chain(userxattr)).collect(),
    }
}

fn option(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const INDEX: OverlayOptions = OverlayOptions {
        index_off: true,
        userxattr: false,
    };

    #[rstest]
    #[case(Kind::Active, &[], "bind", "/s/fs", &["rw", "rbind"])]
    #[case(Kind::View, &[], "bind", "/s/fs", &["ro", "rbind"])]
    #[case(Kind::View, &["/a"], "bind", "/a", &["ro", "rbind"])]
    #[case(Kind::View, &["/b", "/a"], "overlay", "overlay", &["index=off", "lowerdir=/b:/a"])]
    #[case(Kind::Active, &["/a"], "overlay", "overlay",
        &["index=off", "workdir=/s/work", "upperdir=/s/fs", "lowerdir=/a"])]
    #[case(Kind::Active, &["/b", "/a"], "overlay", "overlay",
        &["index=off", "workdir=/s/work", "upperdir=/s/fs", "lowerdir=/b:/a"])]
    fn lists(
        #[case] kind: Kind,
        #[case] lowers: &[&str],
        #[case] fs_type: &str,
        #[case] source: &str,
        #[case] options: &[&str],
    ) {
        let lowers: Vec<_> = lowers.iter().map(PathBuf::from).collect();
        let folders = Folders {
            content: Path::new("/s/fs"),
            work: Path::new("/s/work"),
            lowers: &lowers,
        };
        let wanted = Mount {
            r#type: fs_type.into(),
            source: source.into(),
            target: String::new(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
        };
        assert_eq!(mounts(kind, folders, INDEX, None), [wanted]);
    }

    #[test]
    fn old_kernels_are_not_told_of_the_index() {
        let lowers = [PathBuf::from("/b"), PathBuf::from("/a")];
        let folders = Folders {
            content: Path::new("/s/fs"),
            work: Path::new("/s/work"),
            lowers: &lowers,
        };
        let mounts = mounts(Kind::View, folders, OverlayOptions::default(), None);
        assert_eq!(mounts[0].options, ["lowerdir=/b:/a"]);
    }

    #[test]
    fn overlays_are_told_of_marks_and_everything_of_mapped_ids() {
        let one = [PathBuf::from("/a")];
        let folders = |lowers| Folders {
            content: Path::new("/s/fs"),
            work: Path::new("/s/work"),
            lowers,
        };
        let options = OverlayOptions {
            index_off: false,
            userxattr: true,
        };
        let mapping = "0:7:9".to_owned();
        let labels = [crate::label::UID_MAPPING, crate::label::GID_MAPPING]
            .map(|label| (label.to_owned(), mapping.clone()));
        let remap = Remap::of(&labels.into()).unwrap();
        let of = |kind, lowers| {
            mounts(kind, folders(lowers), options, remap.as_ref())[0]
                .options
                .clone()
        };
        let wanted = "workdir=/s/work upperdir=/s/fs lowerdir=/a/. userxattr uidmap=0:7:9 gidmap=0:7:9";
        assert_eq!(of(Kind::Active, &one).join(" "), wanted);
        assert_eq!(
            of(Kind::View, &one).join(" "),
            "ro rbind uidmap=0:7:9 gidmap=0:7:9"
        );
        assert_eq!(
            of(Kind::Active, &[]).join(" "),
            "rw rbind uidmap=0:7:9 gidmap=0:7:9"
        );
    }
}
