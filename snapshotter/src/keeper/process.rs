//! The keeper that is a process of its own: found by its socket, started when it is not there.

// A new session has to be made between fork and exec.
#![allow(unsafe_code)]

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::wire::{self, Packet};
use super::{Error, Held};

/// How long the keeper may take to answer. It has nothing else to do.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// Daemons that may wait for the keeper at the same time.
const BACKLOG: i32 = 16;

/// A keeper at its socket.
#[derive(Debug)]
pub struct ProcessKeeper {
    socket: PathBuf,
}

impl ProcessKeeper {
    /// Finds the keeper that listens on `socket`, or starts one there: `program keeper SOCKET`. It survives this
    /// process, however that ends.
    ///
    /// # Errors
    /// It speaks another version, or cannot be started.
    pub fn find_or_start(socket: &Path, program: &Path) -> Result<Self, Error> {
        let keeper = Self {
            socket: socket.to_owned(),
        };
        match keeper.ask(wire::TAKE, "", None) {
            Err(Error::Io { source, .. })
                if matches!(
                    source.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                let started = start(socket, program);
                started.map_err(|source| keeper.failed("start the keeper at", source))?;
            }
            other => drop(other?),
        }
        Ok(keeper)
    }

    pub(super) fn store(&self, name: &str, descriptor: BorrowedFd<'_>) -> Result<(), Error> {
        self.ask(wire::STORE, name, Some(descriptor)).map(drop)
    }

    pub(super) fn take(&self) -> Result<Vec<Held>, Error> {
        let answer = self.ask(wire::TAKE, "", None)?;
        let names = String::from_utf8_lossy(&answer.text);
        let names = names.split_terminator('\n').map(str::to_owned);
        Ok(names.zip(answer.descriptors).collect())
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), Error> {
        self.ask(wire::DROP, name, None).map(drop)
    }

    pub(super) fn end(&self) -> Result<(), Error> {
        self.ask(wire::END, "", None).map(drop)
    }

    fn ask(&self, code: u8, name: &str, descriptor: Option<BorrowedFd<'_>>) -> Result<Packet, Error> {
        let answer = self.exchange(code, name, descriptor);
        let answer = answer.map_err(|source| self.failed("ask the keeper at", source))?;
        if answer.version != wire::VERSION || answer.code == wire::OTHER_VERSION {
            return Err(Error::Version {
                keeper: answer.version,
                ours: wire::VERSION,
            });
        }
        match answer.code {
            wire::DONE => Ok(answer),
            _ => Err(Error::Refused),
        }
    }

    fn exchange(&self, code: u8, name: &str, descriptor: Option<BorrowedFd<'_>>) -> io::Result<Packet> {
        let socket = socket()?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_DEADLINE))?;
        set_socket_timeout(&socket, Timeout::Send, Some(ANSWER_DEADLINE))?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(&self.socket)?)?;
        wire::send(&socket, code, name.as_bytes(), descriptor.as_slice())?;
        wire::receive(&socket)
    }

    fn failed(&self, what: &'static str, source: io::Error) -> Error {
        Error::Io {
            what,
            path: self.socket.clone(),
            source,
        }
    }
}

fn socket() -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    Ok(socket)
}

/// Listens first and hands the socket over, so that nobody has to wait until the keeper is ready.
fn start(path: &Path, program: &Path) -> io::Result<()> {
    let listener = socket()?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    rustix::net::bind(&listener, &SocketAddrUnix::new(path)?)?;
    // Nobody can connect before it listens, and the folder is its owner's only.
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    rustix::net::listen(&listener, BACKLOG)?;
    let mut command = Command::new(program);
    command
        .arg0("slipwayd")
        .arg("keeper")
        .arg(path)
        .env_clear()
        .stdin(listener)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // SAFETY: between fork and exec only a system call is made.
    unsafe {
        command.pre_exec(|| {
            // Signals for the daemon's terminal or group are none of the keeper's.
            rustix::process::setsid()?;
            Ok(())
        });
    }
    let mut child = command.spawn()?;
    // It is waited for where that costs nobody anything: it may end after the daemon, or long before.
    std::thread::Builder::new()
        .name("keeper-end".to_owned())
        .spawn(move || child.wait())?;
    Ok(())
}

/// Runs the keeper itself: the socket is standard input, and listens on `path`. Returns when it is no longer needed.
///
/// # Errors
/// Standard input is no listening socket.
pub fn hold(path: &Path) -> io::Result<()> {
    let listener = io::stdin().as_fd().try_clone_to_owned()?;
    super::holder::hold(&listener, path)
}
