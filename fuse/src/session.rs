//! The FUSE session: mounts a tree or goes on with a connection, runs the threads that answer, and ends them.

// A descriptor is put in the place of another.
#![allow(unsafe_code)]

mod adaptor;
mod agreement;
mod connection;
mod mark;

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fuser::{BackgroundSession, Config, INodeNo, InitFlags, MountOption, Notifier, Session, SessionACL};

use self::adaptor::Adaptor;
use self::agreement::KNOWN;
pub use self::connection::Connection;
use self::mark::Mark;
use crate::fetch::Engine;
use crate::mount::{self, Trust, Unmounted};
use crate::tree::{BLOBS, IMAGES, Tree};

/// Called with a new connection before anything is answered on it: keeps a copy of the descriptor somewhere that
/// outlives the process, and what the next server must know of it.
pub type Keep<'a> = &'a mut dyn FnMut(BorrowedFd<'_>, &Connection) -> io::Result<()>;

/// What a session answers for, and how.
pub(crate) struct Serving {
    pub(crate) tree: Arc<Tree>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) threads: usize,
}

impl Serving {
    fn adaptor(&self, mark: Mark) -> Adaptor {
        Adaptor::new(self.tree.clone(), self.engine.clone(), mark)
    }

    fn config(&self) -> Config {
        let mut config = Config::default();
        config.n_threads = Some(self.threads.max(1));
        // A cloned device would lose its requests with the process.
        config.clone_fd = false;
        config
    }
}

/// A mounted session and its threads.
pub(crate) struct Mounted {
    mountpoint: PathBuf,
    device: Option<(u32, u32)>,
    background: BackgroundSession,
    notifier: Notifier,
    is_direct: bool,
    /// The session's descriptor. Open as long as `notifier` is.
    descriptor: RawFd,
    /// Whether somebody else keeps the connection too.
    is_kept: bool,
}

/// Mounts a tree and starts to answer. Root mounts directly, others through `fusermount3`.
pub(crate) fn start(mountpoint: &Path, trust: Trust, serving: &Serving) -> io::Result<Mounted> {
    if rustix::process::geteuid().is_root() {
        return start_directly(mountpoint, trust, serving, None);
    }
    let mut config = serving.config();
    config.mount_options = vec![
        MountOption::RO,
        MountOption::FSName(mount::SOURCE.to_owned()),
        MountOption::Subtype(mount::SOURCE.to_owned()),
    ];
    let session = Session::new(serving.adaptor(Mark::none()), mountpoint, &config)?;
    let device = mount::device(mountpoint)
        .inspect_err(|error| tracing::warn!(%error, "the device number of the mount is unknown"))
        .ok();
    Mounted::run(session, mountpoint, device)
}

/// Mounts a tree with a connection that is to outlive this process. Only for root.
pub(crate) fn start_kept(
    mountpoint: &Path,
    trust: Trust,
    serving: &Serving,
    keep: Keep<'_>,
) -> io::Result<Mounted> {
    start_directly(mountpoint, trust, serving, Some(keep))
}

fn start_directly(
    mountpoint: &Path,
    trust: Trust,
    serving: &Serving,
    keep: Option<Keep<'_>>,
) -> io::Result<Mounted> {
    let device = mount::mount(mountpoint, trust)?;
    greet(mountpoint, device, serving, keep).inspect_err(|_| {
        // The error of the session says more than that of cleaning up after it.
        mount::unmount(mountpoint, None).ok();
    })
}

fn greet(
    mountpoint: &Path,
    device: OwnedFd,
    serving: &Serving,
    keep: Option<Keep<'_>>,
) -> io::Result<Mounted> {
    let number = mount::device(mountpoint)?;
    let mark = match keep {
        Some(_) => Mark::create(mountpoint)?,
        None => Mark::none(),
    };
    let adaptor = serving.adaptor(mark);
    let agreed = adaptor.agreed();
    let session = Session::from_fd(adaptor, device, SessionACL::All, serving.config())?;
    let is_kept = keep.is_some();
    if let Some(keep) = keep {
        let agreed = agreed.get().ok_or(io::ErrorKind::InvalidData)?;
        keep(session.as_fd(), &agreed.at(number))?;
    }
    mount::raise_read_ahead(number);
    let mounted = Mounted::run(session, mountpoint, Some(number))?;
    Ok(Mounted {
        is_direct: true,
        is_kept,
        ..mounted
    })
}

/// The servers before agreed on something with the kernel that this one does not know.
#[derive(Debug, thiserror::Error)]
#[error(
    "the connection uses FUSE features {unknown:#x}, which this version does not know; hint: go on with the version \
     that used it"
)]
pub struct ResumeError {
    /// Bits of the features.
    pub unknown: u64,
}

/// Features of the FUSE protocol that a connection may have for this version to go on with it, as bits of `FUSE_INIT`.
pub fn known_features() -> u64 {
    KNOWN.bits()
}

/// Refuses a connection whose features this version does not know.
pub(crate) fn check(connection: &Connection) -> Result<(), ResumeError> {
    let flags = InitFlags::from_bits_retain(connection.flags);
    match flags.difference(KNOWN).bits() {
        0 => Ok(()),
        unknown => Err(ResumeError { unknown }),
    }
}

/// Goes on with the connection of a server that ended, which was [`check`]ed: what it left unanswered comes again or, where
/// the kernel cannot do that, ends in EIO.
pub(crate) fn resume(
    mountpoint: &Path,
    device: BorrowedFd<'_>,
    connection: &Connection,
    serving: &Serving,
) -> io::Result<Mounted> {
    let flags = InitFlags::from_bits_retain(connection.flags);
    let mark = Mark::open(mountpoint)?;
    if !flags.contains(InitFlags::FUSE_HAS_RESEND) {
        let count = mark.refuse_taken(device)?;
        tracing::warn!(
            count,
            "requests that were under way end in errors: this kernel cannot send them again"
        );
    }
    let session = connection::resume(serving.adaptor(mark), device, connection, serving.config())?;
    if flags.contains(InitFlags::FUSE_HAS_RESEND) {
        connection::resend(device)?;
    }
    let mounted = Mounted::run(session, mountpoint, Some(connection.device))?;
    Ok(Mounted {
        is_direct: true,
        is_kept: true,
        ..mounted
    })
}

impl Mounted {
    fn run(session: Session<Adaptor>, mountpoint: &Path, device: Option<(u32, u32)>) -> io::Result<Self> {
        let notifier = session.notifier();
        let descriptor = session.as_fd().as_raw_fd();
        Ok(Mounted {
            mountpoint: mountpoint.to_owned(),
            device,
            background: session.spawn()?,
            notifier,
            is_direct: false,
            descriptor,
            is_kept: false,
        })
    }

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

    /// Whether somebody else keeps the connection too.
    pub(crate) fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Stops to answer and leaves the mount as it is. Whatever is not answered by now never is by this process, not
    /// even with an error: it waits for the next one. The threads end with the process.
    pub(crate) fn leave(&self) -> io::Result<()> {
        let nowhere = File::options().read(true).write(true).open("/dev/null")?;
        // SAFETY: `notifier` shares the session's descriptor and is alive.
        unsafe { connection::replace(self.descriptor, nowhere.as_fd()) }
    }

    /// Unmounts and waits for the threads, where their end is certain.
    pub(crate) fn end(self) -> io::Result<()> {
        if self.is_kept {
            mark::remove(&self.mountpoint);
        }
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
