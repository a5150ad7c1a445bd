//! Mounting and unmounting a FUSE connection without help, and tuning what the kernel keeps of it.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

/// Read-ahead of the mount, in KiB. FUSE_INIT can only lower the kernel's 128, and on a remote with 15 ms latency
/// 4 MiB alone made loading a mapped file three times as fast.
pub(crate) const READ_AHEAD_KB: u32 = 4096;

/// What the kernel shows as source of the mount.
pub(crate) const SOURCE: &str = "slipway";

/// What may be done with the files of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Set-user-id and device files work: containers see them through overlayfs, as in any image.
    Container,
    /// They do not: users look at an image of somebody else.
    Visitor,
}

/// Opens `/dev/fuse` and mounts it. Only for root.
pub(crate) fn mount(mountpoint: &Path, trust: Trust) -> io::Result<OwnedFd> {
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other",
        device.as_raw_fd()
    );
    let options = CString::new(options).expect("the text has no NUL");
    let flags = MountFlags::RDONLY
        | match trust {
            Trust::Container => MountFlags::empty(),
            Trust::Visitor => MountFlags::NOSUID | MountFlags::NODEV,
        };
    rustix::mount::mount(
        SOURCE,
        mountpoint,
        format!("fuse.{SOURCE}"),
        flags,
        options.as_c_str(),
    )?;
    Ok(device.into())
}

/// The device number of what is mounted at `mountpoint`, major and minor. The session need not answer yet.
pub(crate) fn device(mountpoint: &Path) -> io::Result<(u32, u32)> {
    let stat = rustix::fs::statx(
        rustix::fs::CWD,
        mountpoint,
        AtFlags::STATX_DONT_SYNC,
        StatxFlags::empty(),
    )?;
    Ok((stat.stx_dev_major, stat.stx_dev_minor))
}

/// Raises the read-ahead of a mount. Only root may; without it reads are right and slow.
pub(crate) fn raise_read_ahead((major, minor): (u32, u32)) {
    let path = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    if let Err(error) = std::fs::write(&path, READ_AHEAD_KB.to_string()) {
        tracing::warn!(path, %error, "read-ahead stays at the kernel's default");
    }
}

/// How an unmount ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unmounted {
    /// The connection is gone: its threads end.
    Ended,
    /// Nobody finds it any more, but files of it are open and its threads go on.
    Detached,
}

/// Ends the connection and detaches the mount. Files that are open give errors from then on.
///
/// A gentle unmount first would gain nothing, since nothing is ever written back, and would be no end where another
/// mount namespace holds a copy of the mount: the connection lives as long as any of them.
pub(crate) fn unmount(mountpoint: &Path, device: Option<(u32, u32)>) -> io::Result<Unmounted> {
    match rustix::mount::unmount(
        mountpoint,
        UnmountFlags::FORCE | UnmountFlags::DETACH | UnmountFlags::NOFOLLOW,
    ) {
        Ok(()) => Ok(Unmounted::Ended),
        // Somebody has unmounted it, perhaps lazily.
        Err(Errno::INVAL | Errno::NOENT) => Ok(abort(device)),
        Err(error) => Err(error.into()),
    }
}

/// Ends a connection through the control file system, for those who cannot unmount by force.
pub(crate) fn abort(device: Option<(u32, u32)>) -> Unmounted {
    let Some((_, minor)) = device else {
        return Unmounted::Detached;
    };
    let path = PathBuf::from(format!("/sys/fs/fuse/connections/{minor}/abort"));
    match File::options()
        .write(true)
        .open(path)
        .and_then(|mut file| io::Write::write_all(&mut file, b"1"))
    {
        Ok(()) => Unmounted::Ended,
        Err(error) => {
            tracing::debug!(%error, "the connection could not be ended by force");
            Unmounted::Detached
        }
    }
}
