//! The EROFS mounts that are there: finding and detaching them.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::UnmountFlags;

/// The kernel's list of mounts.
const MOUNT_INFO: &str = "/proc/self/mountinfo";

/// Takes a mount out of sight; it ends when nobody uses it any more. That there is none is no error.
pub(crate) fn detach(target: &Path) -> io::Result<()> {
    match rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Detaches all EROFS mounts directly in a folder, and returns how many those were.
pub(crate) fn detach_all(folder: &Path) -> io::Result<usize> {
    let mounts = std::fs::read_to_string(MOUNT_INFO)?;
    let folder = folder.canonicalize()?;
    let mut count = 0;
    for (target, _) in erofs_mounts(&mounts).filter(|(target, _)| target.parent() == Some(&folder)) {
        detach(&target)?;
        count += 1;
    }
    Ok(count)
}

/// Target and source of the EROFS mounts in the kernel's list: the fifth field is the target; after a dash come type
/// and source.
fn erofs_mounts(mountinfo: &str) -> impl Iterator<Item = (PathBuf, PathBuf)> {
    mountinfo.lines().filter_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let source = file_system.strip_prefix("erofs ")?.split(' ').next()?;
        let target = mount.split(' ').nth(4)?;
        Some((unescape(target).into(), unescape(source).into()))
    })
}

/// The kernel writes blanks and backslashes in paths as three octal digits.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escaped, plain)| {
            text.replace(escaped, plain)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_erofs_mounts_are_listed() {
        let list = "30 1 254:0 / / rw - ext4 /dev/vda rw\n\
                    31 30 0:40 / /run/mnt/1 ro,relatime shared:5 - erofs /a\\040b/image.boot ro\n\
                    32 30 0:41 / /run/mnt/2 rw - fuse erofs ro\n";
        let found: Vec<_> = erofs_mounts(list).collect();
        assert_eq!(found, [("/run/mnt/1".into(), "/a b/image.boot".into())]);
    }

    #[test]
    fn what_is_not_mounted_is_detached_already() {
        let dir = tempfile::tempdir().unwrap();
        detach(dir.path()).unwrap();
        detach(&dir.path().join("none")).unwrap();
        assert_eq!(detach_all(dir.path()).unwrap(), 0);
    }
}
