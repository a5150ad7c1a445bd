//! Unix sockets only root may use.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use super::node::{NodeError, failed};
use super::takeover::Found;
use crate::keeper::Keeper;

/// Goes on with the socket at `path` where the keeper has it, so that those who are connecting only wait; else listens
/// there and lets the keeper have it. `purpose` is the first part of its name with the keeper.
pub(super) fn listen_kept(
    path: &Path,
    purpose: &str,
    found: &mut Found,
    keeper: &Keeper,
) -> Result<UnixListener, super::Error> {
    let kept = kept_name(path, purpose).and_then(|name| found.take(&name));
    if let Some(kept) = kept {
        tracing::debug!(path = %path.display(), "going on with a socket");
        return Ok(adopt(kept).map_err(failed("listen on", path))?);
    }
    let listener = listen(path)?;
    if let Some(name) = kept_name(path, purpose) {
        keeper.store(&name, listener.as_fd())?;
    }
    Ok(listener)
}

fn adopt(kept: OwnedFd) -> io::Result<UnixListener> {
    let kept = StdListener::from(kept);
    kept.set_nonblocking(true)?;
    UnixListener::from_std(kept)
}

/// Name of the socket that is at `path` now. Another one that takes its place later has another name.
pub(super) fn kept_name(path: &Path, purpose: &str) -> Option<String> {
    let metadata = fs::symlink_metadata(path).ok()?;
    let (device, inode) = (metadata.dev(), metadata.ino());
    (metadata.file_type().is_socket()).then(|| format!("{purpose}-{device:x}-{inode:x}"))
}

/// Listens on a socket. One that a dead daemon left is replaced; one that answers is not.
pub(super) fn listen(path: &Path) -> Result<UnixListener, NodeError> {
    if let Some(parent) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .map_err(failed("create folder", parent))?;
    }
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(NodeError::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Err(NodeError::SocketInUse {
                path: path.to_owned(),
            });
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("look at", path)(error)),
    }
    // Bound under another name, so that it has its mode before anybody can find it; the renaming replaces a stale one.
    let passing = passing_name(path);
    match fs::remove_file(&passing) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove stale socket", &passing)(error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&passing).map_err(failed("listen on", &passing))?;
    fs::set_permissions(&passing, Permissions::from_mode(0o600))
        .map_err(failed("change mode of", &passing))?;
    fs::rename(&passing, path).map_err(failed("place socket", path))?;
    Ok(listener)
}

fn passing_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Removes a socket at the end. A failure leaves a stale socket, which the next start replaces.
pub(super) fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::debug!(path = %path.display(), %error, "cannot remove socket");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stale_sockets_are_replaced_and_live_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/s.sock");
        let live = listen(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(listen(&path), Err(NodeError::SocketInUse { .. })));
        drop(live);
        assert!(path.exists());
        let again = listen(&path).unwrap();
        drop(again);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert!(matches!(listen(&path), Err(NodeError::NotASocket { .. })));
    }
}
