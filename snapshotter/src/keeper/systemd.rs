//! The keeper that is systemd: its file descriptor store, `FileDescriptorStoreMax=` in the unit.
//!
//! systemd hands descriptors out only when it starts the daemon, and never says whether it kept one. So copies are held
//! here, and whether there is a store at all is tried once.

// Descriptors come from outside as numbers.
#![allow(unsafe_code)]

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::wire;
use super::{Error, Held};

/// How long systemd may take to read its messages.
const BARRIER_DEADLINE: Duration = Duration::from_secs(5);

/// Name of the descriptor that tries whether there is a store.
const TRIAL: &str = "trial";

/// systemd, reached over its notification socket.
#[derive(Debug)]
pub struct SystemdKeeper {
    socket: PathBuf,
    held: Mutex<Vec<Held>>,
}

/// Takes what systemd handed to this process at its start. To be called once, before anything else is opened.
///
/// # Errors
/// The environment contradicts itself.
pub fn handed_over() -> io::Result<Vec<Held>> {
    let handed = sd_notify::listen_fds_with_names()?;
    // SAFETY: systemd opened these for this process, and nothing else owns them.
    let handed = handed.map(|(number, name)| (name, unsafe { OwnedFd::from_raw_fd(number) }));
    Ok(handed.collect())
}

impl SystemdKeeper {
    /// Uses the store behind a notification socket (`NOTIFY_SOCKET`); `handed` is what it gave to this process.
    pub fn new(socket: &OsStr, handed: Vec<Held>) -> Self {
        Self {
            socket: socket.into(),
            // Left by a daemon that died while it tried.
            held: Mutex::new(handed.into_iter().filter(|(name, _)| name != TRIAL).collect()),
        }
    }

    /// Whether descriptors are kept, tried with one: without a store systemd closes what it is given.
    pub fn has_store(&self) -> bool {
        let tried = self.try_store();
        tried
            .inspect_err(|error| tracing::warn!(%error, "cannot try systemd's file descriptor store"))
            .unwrap_or(false)
    }

    fn try_store(&self) -> io::Result<bool> {
        let (mut ours, given) = UnixStream::pair()?;
        self.tell("FDSTORE=1\nFDPOLL=0\n", TRIAL, Some(given.as_fd()))?;
        drop(given);
        self.barrier()?;
        ours.set_nonblocking(true)?;
        let is_kept = match ours.read(&mut [0]) {
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            Ok(_) => false,
        };
        self.tell("FDSTOREREMOVE=1\n", TRIAL, None)?;
        self.barrier()?;
        Ok(is_kept)
    }

    /// Waits until systemd has read all messages: it closes what comes with this one.
    fn barrier(&self) -> io::Result<()> {
        let (mut barrier, passed) = UnixStream::pair()?;
        self.send(b"BARRIER=1\n", &[passed.as_fd()])?;
        drop(passed);
        barrier.set_read_timeout(Some(BARRIER_DEADLINE))?;
        // Its end: nothing is ever written.
        barrier.read_to_end(&mut Vec::new())?;
        Ok(())
    }

    pub(super) fn store(&self, name: &str, descriptor: BorrowedFd<'_>) -> Result<(), Error> {
        let copy = descriptor.try_clone_to_owned();
        let copy = copy.map_err(|source| self.failed(source))?;
        // It keeps several of one name, and drops one that looks dead unless told not to look.
        self.remove(name)?;
        let told = self.tell("FDSTORE=1\nFDPOLL=0\n", name, Some(descriptor));
        told.map_err(|source| self.failed(source))?;
        self.held().push((name.to_owned(), copy));
        Ok(())
    }

    pub(super) fn take(&self) -> Result<Vec<Held>, Error> {
        let held = self.held();
        let copies = held
            .iter()
            .map(|(name, descriptor)| Ok((name.clone(), descriptor.try_clone()?)));
        copies
            .collect::<io::Result<_>>()
            .map_err(|source| self.failed(source))
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), Error> {
        self.held().retain(|(held, _)| held != name);
        let told = self.tell("FDSTOREREMOVE=1\n", name, None);
        told.map_err(|source| self.failed(source))
    }

    pub(super) fn end(&self) -> Result<(), Error> {
        let names: Vec<_> = self.held().iter().map(|(name, _)| name.clone()).collect();
        names.iter().try_for_each(|name| self.remove(name))
    }

    fn tell(&self, what: &str, name: &str, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let message = format!("{what}FDNAME={name}\n");
        self.send(message.as_bytes(), descriptor.as_slice())
    }

    fn send(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let socket = UnixDatagram::unbound()?;
        // A leading @ stands for a name that is not in the file system.
        match self.socket.as_os_str().as_bytes() {
            [b'@', name @ ..] => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
            _ => socket.connect(&self.socket)?,
        }
        wire::send_with_rights(&socket, &[message], descriptors)
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Io {
            what: "talk to systemd at",
            path: Path::new(&self.socket).to_owned(),
            source,
        }
    }

    fn held(&self) -> MutexGuard<'_, Vec<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
