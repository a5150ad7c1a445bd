//! The EROFS mounts that are there: finding and detaching them.

use std::io;
use std::path::Path;

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

/// Detaches all EROFS mounts directly in a folder, and returns how many those were.
pub(crate) fn detach_all(folder: &Path) -> io::Result<usize> {
    let mounts = std::fs::read_to_string(mountinfo::PATH)?;
    let folder = folder.canonicalize()?;
    let mut count = 0;
    let targets = mountinfo::targets(&mounts, |fs_type| fs_type == "erofs");
    for target in targets.filter(|target| target.parent() == Some(&folder)) {
        detach(&target)?;
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_mounted_is_detached_already() {
        let dir = tempfile::tempdir().unwrap();
        detach(dir.path()).unwrap();
        detach(&dir.path().join("none")).unwrap();
        assert_eq!(detach_all(dir.path()).unwrap(), 0);
    }
}
