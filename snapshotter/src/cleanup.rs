//! Taking back the folders of removed snapshots, away from containerd's locks.

use std::fs;
use std::path::{Path, PathBuf};

use crate::layout::{DEAD_PREFIX, Layout, NEW_PREFIX};
use crate::store::{Census, SnapshotId, Store};
use crate::{Error, Result};

/// What to do with an entry of the snapshots folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Keep,
    Delete,
}

/// Deletes the folders that belong to no snapshot. `first` is true at start, when nothing can be on its way in:
/// then half-made folders go too. Goes on after a folder that cannot be deleted; returns the first such error.
pub fn sweep(layout: &Layout, store: &Store, first: bool) -> Result<usize> {
    let snapshots = layout.snapshots();
    // The names come before the census: a folder seen here is either counted there or numbered beyond it.
    let names = list(&snapshots)?;
    let census = store.census()?;
    let mut deleted = 0;
    let mut failure = None;
    for path in names
        .iter()
        .filter(|path| verdict(path, &census, first) == Verdict::Delete)
    {
        match delete(path) {
            Ok(()) => deleted += 1,
            Err(error) => {
                tracing::warn!(%error, "cannot take back a folder");
                failure.get_or_insert(error);
            }
        }
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(deleted),
    }
}

fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(Error::io("list", folder))?;
    entries
        .map(|entry| Ok(entry.map_err(Error::io("list", folder))?.path()))
        .collect()
}

fn verdict(path: &Path, census: &Census, first: bool) -> Verdict {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Verdict::Keep;
    };
    let garbage = if name.starts_with(DEAD_PREFIX) {
        true
    } else if name.starts_with(NEW_PREFIX) {
        first
    } else if let Ok(id) = name.parse().map(SnapshotId) {
        (first || id <= census.last) && !census.live.contains(&id)
    } else {
        false
    };
    if garbage { Verdict::Delete } else { Verdict::Keep }
}

fn delete(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("delete", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("3", false, Verdict::Keep)]
    #[case("4", false, Verdict::Delete)]
    #[case("6", false, Verdict::Keep)]
    #[case("6", true, Verdict::Delete)]
    #[case("new-1", false, Verdict::Keep)]
    #[case("new-1", true, Verdict::Delete)]
    #[case("dead-1", false, Verdict::Delete)]
    #[case("lost+found", true, Verdict::Keep)]
    fn verdicts(#[case] name: &str, #[case] first: bool, #[case] wanted: Verdict) {
        let census = Census {
            last: SnapshotId(5),
            live: HashSet::from([SnapshotId(3)]),
        };
        assert_eq!(
            verdict(&Path::new("/root/snapshots").join(name), &census, first),
            wanted
        );
    }
}
