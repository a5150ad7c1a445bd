//! Mounting a bootstrap. mount(8) would put a loop device in between, and mount(2) has one page for all options.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};

use super::Parts;
use crate::mount::READ_AHEAD_KB;

/// Longest value of an option that the kernel takes, in bytes.
const VALUE_LEN_MAX: usize = 255;

/// Bytes of one message of the kernel about a mount that is refused.
const MESSAGE_LEN_MAX: usize = 512;

/// Where the kernel lists the read-ahead of file systems.
const BDI_DIR: &str = "/sys/class/bdi";

/// Why the kernel does not mount a bootstrap.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    /// A path does not fit into an option.
    #[error("path {path} is longer than {VALUE_LEN_MAX} bytes")]
    PathLength {
        /// The path.
        path: String,
    },
    /// The kernel refused, and perhaps said why.
    #[error("{step}: {source}{}", if message.is_empty() { String::new() } else { format!(" ({message})") })]
    Refused {
        /// What was tried.
        step: &'static str,
        /// The error number.
        source: io::Error,
        /// The kernel's own words, or nothing.
        message: String,
    },
}

/// Mounts an image, read-only. Set-user-id and device files work, as containers expect of any image, so the target's
/// folder should be root's only. The devices must answer: the kernel opens them meanwhile.
pub(crate) fn mount(parts: &Parts<'_>) -> Result<(), MountError> {
    // One at a time, so that the new entry among the kernel's read-aheads is that of this mount.
    static ORDER: Mutex<()> = Mutex::new(());
    let _order = ORDER.lock().unwrap_or_else(PoisonError::into_inner);
    let before = read_aheads();
    let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(refused("open EROFS", None))?;
    let set = |key: &str, path: &Path| {
        if path.as_os_str().len() > VALUE_LEN_MAX {
            let path = path.display().to_string();
            return Err(MountError::PathLength { path });
        }
        fsconfig_set_string(&context, key, path).map_err(refused("name a file", Some(&context)))
    };
    set("source", parts.bootstrap)?;
    for device in &parts.devices {
        set("device", device)?;
    }
    if parts.is_direct {
        fsconfig_set_flag(&context, "directio")
            .map_err(refused("read past the page cache", Some(&context)))?;
    }
    fsconfig_set_flag(&context, "ro").map_err(refused("make read-only", Some(&context)))?;
    fsconfig_create(&context).map_err(refused("open the image", Some(&context)))?;
    let mount = fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_RDONLY,
    )
    .map_err(refused("mount", Some(&context)))?;
    move_mount(
        &mount,
        "",
        CWD,
        parts.target,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .map_err(refused("attach the mount", None))?;
    for name in read_aheads().difference(&before) {
        raise_read_ahead(name);
    }
    Ok(())
}

fn refused(step: &'static str, context: Option<&OwnedFd>) -> impl FnOnce(rustix::io::Errno) -> MountError {
    move |errno| MountError::Refused {
        step,
        source: errno.into(),
        message: context.map(messages).unwrap_or_default(),
    }
}

/// What the kernel has to say about a mount.
fn messages(context: &OwnedFd) -> String {
    let mut said = Vec::new();
    let mut bytes = [0; MESSAGE_LEN_MAX];
    // A read gives one message, and an error when there are none left.
    while let Ok(len @ 1..) = rustix::io::read(context, &mut bytes) {
        said.push(String::from_utf8_lossy(&bytes[..len]).trim().to_owned());
    }
    said.join("; ")
}

/// Names of EROFS file systems that are mounted from files.
fn read_aheads() -> HashSet<OsString> {
    let entries = std::fs::read_dir(BDI_DIR).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name());
    names
        .filter(|name| name.as_encoded_bytes().starts_with(b"erofs-"))
        .collect()
}

/// Raises the read-ahead of a file system; without it reads are right and slow.
fn raise_read_ahead(name: &OsString) {
    let path = Path::new(BDI_DIR).join(name).join("read_ahead_kb");
    if let Err(error) = std::fs::write(&path, READ_AHEAD_KB.to_string()) {
        tracing::warn!(path = %path.display(), %error, "read-ahead stays at the kernel's default");
    }
}
