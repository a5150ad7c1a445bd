//! The EROFS mounts that are there: finding and detaching them.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::mountinfo;

/// Takes a mount out of sight; it ends when nobody uses it any more. That there is none is no error.
pub(crate) fn detach(target: &Path) -> io::Result<()> {
    match rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The EROFS mounts directly in a folder: where they are, and the bootstrap that is mounted there.
pub(crate) fn list(folder: &Path) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let mounts = std::fs::read_to_string(mountinfo::PATH)?;
    let folder = folder.canonicalize()?;
    let mounts = mountinfo::mounts(&mounts).filter(|mount| mount.fs_type == "erofs");
    let inside = mounts.filter(|mount| mount.target.parent() == Some(&folder));
    Ok(inside.map(|mount| (mount.target, mount.source)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_mounted_is_detached_already() {
        let dir = tempfile::tempdir().unwrap();
        detach(dir.path()).unwrap();
        detach(&dir.path().join("none")).unwrap();
        assert_eq!(list(dir.path()).unwrap(), []);
    }
}
