//! How much space a folder takes.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::store::Usage;
use crate::{Error, Result};

/// Bytes of one unit of `st_blocks`, whatever the file system's block size.
const BLOCK_LEN: u64 = 512;

/// Measures a folder as `du` does: blocks on disk, each inode once. Files that vanish meanwhile are left out.
/// A folder that is not there takes nothing.
pub fn measure(folder: &Path) -> Result<Usage> {
    let mut usage = Usage::default();
    let mut seen = HashSet::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(path) = pending.pop() {
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::io("measure", &path)(error)),
        };
        if metadata.nlink() > 1 && !metadata.is_dir() && !seen.insert((metadata.dev(), metadata.ino())) {
            continue;
        }
        usage.inodes = usage.inodes.saturating_add(1);
        usage.bytes = usage
            .bytes
            .saturating_add(metadata.blocks().saturating_mul(BLOCK_LEN));
        if metadata.is_dir() {
            match fs::read_dir(&path) {
                Ok(entries) => pending.extend(entries.filter_map(|entry| Some(entry.ok()?.path()))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("list", &path)(error)),
            }
        }
    }
    Ok(usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hard_links_count_once_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let empty = measure(dir.path()).unwrap();
        assert_eq!(empty.inodes, 1);
        fs::write(dir.path().join("a"), vec![1; 100_000]).unwrap();
        fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("root")).unwrap();
        let full = measure(dir.path()).unwrap();
        assert_eq!(full.inodes, 3);
        let grown = full.bytes - empty.bytes;
        assert!((100_000..200_000).contains(&grown), "{grown}");
    }

    #[test]
    fn nothing_takes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(measure(&dir.path().join("none")).unwrap(), Usage::default());
    }
}
