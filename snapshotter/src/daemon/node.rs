//! The node as the daemon finds it: folders, the lock on them, mounts left by a daemon that died.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use fuse::mountinfo;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use crate::layout::Layout;

/// Why the node is not fit.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Only root may mount for containers.
    #[error(
        "slipwayd must run as root; hint: start it with systemd or sudo (`slipwayd mount` needs no root)"
    )]
    NotRoot,
    /// The system refused.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another daemon has the root.
    #[error("another slipwayd uses {}; hint: stop it, or give this one its own `root` and `run_dir`", path.display())]
    Locked {
        /// What it has locked.
        path: PathBuf,
    },
    /// The record of a kept connection is of another version.
    #[error(
        "{} has version {version}, this slipwayd knows {}; hint: go on with the slipwayd that wrote it, or give up the \
         containers that read lazily: stop them and unmount the folder fs beside it",
        path.display(), super::record::VERSION
    )]
    RecordVersion {
        /// The record.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// The kept connection serves containers of another root.
    #[error(
        "containers read from the images of a slipwayd with the root {}; hint: start with that root, or use another \
         `run_dir`",
        root.display()
    )]
    OtherRoot {
        /// That root.
        root: PathBuf,
    },
    /// Another process listens on a socket.
    #[error("another process listens on {}; hint: stop it, or give this daemon its own `run_dir`", path.display())]
    SocketInUse {
        /// The socket.
        path: PathBuf,
    },
    /// The store is new, yet there are snapshots: it was lost, and to go on would delete them all.
    #[error(
        "{} has snapshots, but their store {} is missing or empty; hint: bring the store back, or, to give the \
         snapshots up, move that folder away",
        snapshots.display(), store.display()
    )]
    StoreLost {
        /// Folder of the snapshots.
        snapshots: PathBuf,
        /// The store.
        store: PathBuf,
    },
    /// Something is in the place of a socket.
    #[error("{} is in the way and is no socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
}

pub(super) fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> NodeError {
    move |source| NodeError::Io {
        what,
        path: path.to_owned(),
        source,
    }
}

/// Refuses to start what would fail half-way.
pub(super) fn require_root() -> Result<(), NodeError> {
    if rustix::process::geteuid().is_root() {
        Ok(())
    } else {
        Err(NodeError::NotRoot)
    }
}

/// Refuses to start over with a new store where an old one's snapshots lie: its first cleaning would delete them.
pub(super) fn refuse_lost_store(layout: &Layout) -> Result<(), NodeError> {
    let (store, snapshots) = (layout.store(), layout.snapshots());
    let is_new = match fs::metadata(&store) {
        Ok(metadata) => metadata.len() == 0,
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(failed("look at", &store)(error)),
    };
    let mut entries = fs::read_dir(&snapshots).map_err(failed("list", &snapshots))?;
    if is_new && entries.next().is_some() {
        return Err(NodeError::StoreLost { snapshots, store });
    }
    Ok(())
}

/// The one daemon's hold on a root or a run folder. Ends with the process, however that ends.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Locks a file, which is made if need be, or says who is in the way.
    pub(super) fn file(path: &Path) -> Result<Self, NodeError> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        Self::take(path, &options)
    }

    /// Locks a folder, which leaves nothing in it.
    pub(super) fn folder(path: &Path) -> Result<Self, NodeError> {
        Self::take(path, OpenOptions::new().read(true))
    }

    fn take(path: &Path, options: &OpenOptions) -> Result<Self, NodeError> {
        let file = options.open(path).map_err(failed("open", path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(Errno::WOULDBLOCK) => Err(NodeError::Locked {
                path: path.to_owned(),
            }),
            Err(errno) => Err(failed("lock", path)(errno.into())),
        }
    }
}

/// Creates the folders of a layout. Only root may look inside; the mount point is made when it is clean.
pub(super) fn create_dirs(layout: &Layout) -> Result<(), NodeError> {
    let private = |path: &Path| {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed("create folder", path))
    };
    for path in [
        layout.root(),
        &layout.snapshots(),
        &layout.cache(),
        layout.run_dir(),
    ] {
        private(path)?;
    }
    Ok(())
}

/// Detaches what a daemon that died left mounted here, and makes the folder where it is missing. Whatever FUSE mount
/// is there is dead or given up. It is looked up in the list of mounts: to ask the mount itself would tell nothing,
/// because the kernel remembers its root for as long as the dead daemon said.
pub(super) fn detach_stale(mountpoint: &Path) -> Result<(), NodeError> {
    for _ in mounts_at(mountpoint)? {
        tracing::warn!(path = %mountpoint.display(), "detaching the mount of a daemon that died");
        detach(mountpoint)?;
    }
    match DirBuilder::new().mode(0o755).create(mountpoint) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(failed("create folder", mountpoint)(error))
        }
        _ => Ok(()),
    }
}

/// Device number, major and minor, of the FUSE file system on top of a mount point.
pub(super) fn mounted_device(mountpoint: &Path) -> Result<Option<(u32, u32)>, NodeError> {
    Ok(mounts_at(mountpoint)?.pop())
}

/// Device numbers of the FUSE file systems at a mount point, the topmost last.
fn mounts_at(mountpoint: &Path) -> Result<Vec<(u32, u32)>, NodeError> {
    let parent = mountpoint.parent().unwrap_or(mountpoint);
    let real = parent.canonicalize().map_err(failed("look at", parent))?;
    let real = mountpoint
        .file_name()
        .map_or(real.clone(), |name| real.join(name));
    let list = Path::new(mountinfo::PATH);
    let mounts = fs::read_to_string(list).map_err(failed("read", list))?;
    let here = fuse_mounts(&mounts).filter(|mount| mount.target == real);
    Ok(here.map(|mount| mount.device).collect())
}

/// FUSE file systems in the kernel's list.
fn fuse_mounts(mounts: &str) -> impl Iterator<Item = mountinfo::Mount> {
    let is_fuse = |fs_type: &str| fs_type == "fuse" || fs_type.starts_with("fuse.");
    mountinfo::mounts(mounts).filter(move |mount| is_fuse(&mount.fs_type))
}

/// Takes a mount out of sight; it ends when nobody uses it any more.
pub(super) fn detach(mountpoint: &Path) -> Result<(), NodeError> {
    unmount(mountpoint, UnmountFlags::DETACH).map_err(|errno| failed("unmount", mountpoint)(errno.into()))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use rustix::mount::{MountFlags, mount};

    use super::*;

    /// Mounts a FUSE file system whose daemon is dead from the start.
    fn mount_dead(path: &Path) {
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        let options = std::ffi::CString::new(options).unwrap();
        mount(
            "dead",
            path,
            "fuse",
            MountFlags::empty(),
            Some(options.as_c_str()),
        )
        .unwrap();
    }

    #[test]
    fn the_mount_of_a_dead_daemon_is_detached() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("with blank");
        detach_stale(&path).unwrap();
        mount_dead(&path);
        assert!(mounted_device(&path).unwrap().is_some());
        assert!(fs::read_dir(&path).is_err());
        detach_stale(&path).unwrap();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
        assert_eq!(mounted_device(&path).unwrap(), None);
    }

    #[test]
    fn only_fuse_mounts_are_taken() {
        let list = "30 1 254:0 / / rw - ext4 /dev/vda rw\n\
                    31 30 0:40 / /run/a rw,relatime shared:5 - fuse.slipway slipway ro\n\
                    32 30 0:41 / /run/b\\040c rw - fuse dead ro\n\
                    33 30 0:42 / /run/d rw - fusectl none rw\n\
                    34 30 0:43 / /run/e rw - tmpfs fuse rw\n";
        let found: Vec<_> = fuse_mounts(list)
            .map(|mount| (mount.target, mount.device))
            .collect();
        assert_eq!(found, [("/run/a".into(), (0, 40)), ("/run/b c".into(), (0, 41))]);
    }

    #[test]
    fn one_daemon_per_root() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = (Lock::file(&path).unwrap(), Lock::folder(dir.path()).unwrap());
        assert!(matches!(Lock::file(&path), Err(NodeError::Locked { .. })));
        assert!(matches!(Lock::folder(dir.path()), Err(NodeError::Locked { .. })));
        drop(held);
        Lock::file(&path).unwrap();
        Lock::folder(dir.path()).unwrap();
    }

    #[test]
    fn missing_mount_point_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fs");
        detach_stale(&path).unwrap();
        assert!(path.is_dir());
        detach_stale(&path).unwrap();
    }
}
