//! One server after another on the same connection: what the first does for those that follow, and these for the kernel.

use std::os::fd::BorrowedFd;

use super::{Error, ImageSpec, Server};
use crate::mount::Trust;
use crate::session::{self, Connection, Keep, Mounted};

impl Server {
    /// Makes an image known, so that what was opened of it under an earlier server can be read. It is shown by
    /// [`Server::add`]: nothing is mounted here, since mounting needs a session that answers.
    ///
    /// # Errors
    /// As [`Server::add`].
    pub fn announce(&self, image: ImageSpec) -> Result<(), Error> {
        self.list(image).map(drop)
    }

    /// Mounts with a connection that outlives the process: `keep` puts a copy of its descriptor in a safe place, before
    /// anything is answered on it. Mounts of EROFS that stand on an earlier connection are detached: it is gone. Only
    /// root may.
    ///
    /// # Errors
    /// As [`Server::mount_node`], or `keep` fails.
    pub fn mount_kept(&self, keep: Keep<'_>) -> Result<(), Error> {
        self.tiers.detach_stale()?;
        self.begin(|serving| session::start_kept(&self.mountpoint, Trust::Container, serving, keep))?;
        self.probe()
    }

    /// Goes on with the connection of a server that is gone: `device` is its descriptor, `connection` what that server
    /// knew of it. Requests it left unanswered come again. All images it served should be announced before: a file of
    /// one that is not gives ESTALE. Mounts of EROFS stay as they are and are what [`Server::add`] shows.
    ///
    /// # Errors
    /// The connection uses what this version does not know, the system refuses, or the kernel's EROFS does not work and
    /// nothing else is allowed.
    pub fn resume(&self, device: BorrowedFd<'_>, connection: &Connection) -> Result<(), Error> {
        session::check(connection)?;
        self.tree.images.inherit();
        self.begin(|serving| session::resume(&self.mountpoint, device, connection, serving))?;
        self.tiers.adopt(|id| self.tree.images.listed(id.0).is_some())?;
        self.probe()
    }

    /// Stops to answer, and leaves all mounts for the next server: requests wait for it, those that were taken and not
    /// answered come again. To be called as the process ends, since threads of the session remain until then. Without a
    /// connection that is kept, nothing happens.
    ///
    /// # Errors
    /// The system refuses.
    pub fn leave(&self) -> Result<(), Error> {
        let kept = self.mounted.get().filter(|mounted| mounted.is_kept());
        kept.map_or(Ok(()), Mounted::leave).map_err(|source| Error::Io {
            what: format!("leave {}", self.mountpoint.display()),
            source,
        })
    }
}
