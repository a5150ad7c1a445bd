//! What containerd unpacked into a bootstrap's folder, on the way to its commit.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use proto::lazy::BOOTSTRAP_PATH;
use sha2::{Digest as _, Sha256};

use crate::{Error, Result};

/// Bytes hashed at once: few calls, and small enough to stay in the processor's cache.
const PIECE_LEN: usize = 128 << 10;

/// The digest of a bootstrap layer's bootstrap, which is on disk for good afterwards: its row must not outlive it.
///
/// # Errors
/// There is none. No part of its path may be a link: that would lead out of the folder.
pub(super) fn bootstrap_digest(folder: &Path) -> Result<String> {
    let path = folder.join(BOOTSTRAP_PATH);
    let is_dir = |path: &Path| path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    let is_file = |path: &Path| path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
    let parent = path.parent().unwrap_or(folder);
    if !is_dir(parent) || !is_file(&path) {
        return Err(Error::Invalid {
            field: "bootstrap layer",
            reason: format!("it has no file {BOOTSTRAP_PATH}; hint: convert the image again"),
        });
    }
    let mut file = File::open(&path).map_err(Error::io("open", &path))?;
    let digest = digest(&mut file).map_err(Error::io("read", &path))?;
    file.sync_all().map_err(Error::io("sync", &path))?;
    sync_folder(parent)?;
    sync_folder(folder)?;
    Ok(digest)
}

fn digest(file: &mut File) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE_LEN];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(format!("sha256:{}", hex::encode(hash.finalize()))),
            len => hash.update(&piece[..len]),
        }
    }
}

/// Makes the names in a folder last.
pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    let syncing = File::open(folder).and_then(|folder| folder.sync_all());
    syncing.map_err(Error::io("sync", folder))
}
