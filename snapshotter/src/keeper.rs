//! Keeping descriptors while no daemon runs: a daemon stores what the next one needs, and that one takes it.

mod holder;
mod process;
mod systemd;
#[cfg(test)]
mod tests;
mod wire;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

pub use self::process::{ProcessKeeper, hold};
pub use self::systemd::{SystemdKeeper, handed_over};
pub(crate) use self::wire::VERSION;

/// A descriptor and its name.
pub type Held = (String, OwnedFd);

/// Why nothing can be kept or taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The keeper that runs is of another version.
    #[error(
        "the keeper speaks version {keeper} of its protocol, this slipwayd version {ours}; hint: go on with the \
         slipwayd that started it, or stop that one without containers, which ends the keeper too"
    )]
    Version {
        /// Of the keeper.
        keeper: u8,
        /// Of this program.
        ours: u8,
    },
    /// The keeper has no room, or was asked nonsense.
    #[error("the keeper refuses to keep more")]
    Refused,
    /// It cannot be reached or started.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// Its socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Who keeps.
#[derive(Debug)]
pub enum Keeper {
    /// A process of its own, `slipwayd keeper`.
    Process(ProcessKeeper),
    /// systemd's file descriptor store.
    Systemd(SystemdKeeper),
}

impl Keeper {
    /// Keeps a copy of a descriptor under a name of up to 200 bytes without colon and line feed. One that has the name
    /// is let go.
    ///
    /// # Errors
    /// The keeper cannot be reached or has no room.
    pub fn store(&self, name: &str, descriptor: BorrowedFd<'_>) -> Result<(), Error> {
        match self {
            Self::Process(keeper) => keeper.store(name, descriptor),
            Self::Systemd(keeper) => keeper.store(name, descriptor),
        }
    }

    /// Copies of all that is kept.
    ///
    /// # Errors
    /// The keeper cannot be reached.
    pub fn take(&self) -> Result<Vec<Held>, Error> {
        match self {
            Self::Process(keeper) => keeper.take(),
            Self::Systemd(keeper) => keeper.take(),
        }
    }

    /// Lets go what has a name; nothing may have it.
    ///
    /// # Errors
    /// The keeper cannot be reached.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        match self {
            Self::Process(keeper) => keeper.remove(name),
            Self::Systemd(keeper) => keeper.remove(name),
        }
    }

    /// What the next program in this process has to be given, since it cannot ask for it: systemd hands out what it keeps
    /// only to processes that it starts.
    ///
    /// # Errors
    /// No more descriptors can be opened.
    pub fn handed_on(&self) -> Result<Vec<Held>, Error> {
        match self {
            Self::Process(_) => Ok(Vec::new()),
            Self::Systemd(keeper) => keeper.take(),
        }
    }

    /// Lets go of everything; a process ends.
    ///
    /// # Errors
    /// The keeper cannot be reached.
    pub fn end(&self) -> Result<(), Error> {
        match self {
            Self::Process(keeper) => keeper.end(),
            Self::Systemd(keeper) => keeper.end(),
        }
    }
}
