//! The FUSE session: mounts a tree, runs the threads that answer for it, and ends them.

mod adaptor;

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fuser::{BackgroundSession, Config, INodeNo, MountOption, Notifier, Session, SessionACL};

use crate::fetch::Engine;
use crate::mount::{self, Trust, Unmounted};
use crate::tree::{BLOBS, IMAGES, Tree};

/// A mounted session and its threads.
pub(crate) struct Mounted {
    mountpoint: PathBuf,
    device: Option<(u32, u32)>,
    background: BackgroundSession,
    notifier: Notifier,
    is_direct: bool,
}

/// Mounts a tree and starts to answer. Root mounts directly, others through `fusermount3`.
pub(crate) fn start(
    mountpoint: &Path,
    trust: Trust,
    threads: usize,
    tree: Arc<Tree>,
    engine: Arc<Engine>,
) -> io::Result<Mounted> {
    let is_direct = rustix::process::geteuid().is_root();
    let mut config = Config::default();
    config.n_threads = Some(threads.max(1));
    // A cloned device would lose its requests with the process.
    config.clone_fd = false;
    let adaptor = adaptor::Adaptor::new(tree, engine);
    let session = if is_direct {
        let device = mount::mount(mountpoint, trust)?;
        Session::from_fd(adaptor, device, SessionACL::All, config).inspect_err(|_| {
            // The error of the session says more than that of cleaning up after it.
            mount::unmount(mountpoint, None).ok();
        })?
    } else {
        config.mount_options = vec![
            MountOption::RO,
            MountOption::FSName(mount::SOURCE.to_owned()),
            MountOption::Subtype(mount::SOURCE.to_owned()),
        ];
        Session::new(adaptor, mountpoint, &config)?
    };
    let notifier = session.notifier();
    let background = session.spawn()?;
    let device = mount::device(mountpoint)
        .inspect_err(|error| tracing::warn!(%error, "the device number of the mount is unknown"))
        .ok();
    if let Some(device) = device.filter(|_| is_direct) {
        mount::raise_read_ahead(device);
    }
    Ok(Mounted {
        mountpoint: mountpoint.to_owned(),
        device,
        background,
        notifier,
        is_direct,
    })
}

impl Mounted {
    /// Tells the kernel that a name of `images` and `blobs` is gone, so that it gives back what it holds of it.
    pub(crate) fn forget_image(&self, name: &str) {
        for parent in [IMAGES, BLOBS] {
            match self.notifier.inval_entry(INodeNo(parent), OsStr::new(name)) {
                Ok(()) => {}
                // It never looked there.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::debug!(%error, image = name, "the kernel keeps an image that was removed")
                }
            }
        }
    }

    /// Unmounts and waits for the threads, where their end is certain.
    pub(crate) fn end(self) -> io::Result<()> {
        if !self.is_direct {
            // fusermount3 unmounts lazily; with the connection ended first, the threads end too.
            return match mount::abort(self.device) {
                Unmounted::Ended => self.background.umount_and_join(),
                // Dropping it unmounts; the threads end with the last open file.
                Unmounted::Detached => Ok(()),
            };
        }
        match mount::unmount(&self.mountpoint, self.device)? {
            Unmounted::Ended => self.background.join(),
            Unmounted::Detached => Ok(()),
        }
    }
}
