//! What a starting daemon does with what it finds: goes on with a connection that is kept, or mounts anew.

use std::os::fd::OwnedFd;
use std::path::Path;

use fuse::Connection;

use super::node::{self, NodeError};
use super::record::Record;
use crate::keeper::{Held, Keeper};
use crate::layout::Layout;

/// First part of the name under which a connection is kept.
const CONNECTION_PREFIX: &str = "fuse-";

/// Name under which a connection is kept: the device number tells it from all others that are alive.
pub(super) fn connection_name(connection: &Connection) -> String {
    let (major, minor) = connection.device;
    format!("{CONNECTION_PREFIX}{major}-{minor}")
}

/// What was found.
pub(super) struct Found {
    record: Option<Record>,
    held: Vec<Held>,
    mounted: Option<(u32, u32)>,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Course {
    /// Go on with this connection.
    Resume(OwnedFd, Connection),
    /// Detach what is mounted and mount; with a reason if something was lost.
    Anew(Option<&'static str>),
}

impl Found {
    /// Looks at the record, the mount, and what the keeper has.
    pub(super) fn look(layout: &Layout, keeper: &Keeper) -> Result<Self, super::Error> {
        Ok(Self {
            record: Record::read(&layout.record())?,
            held: keeper.take()?,
            mounted: node::mounted_device(&layout.fuse())?,
        })
    }

    /// Takes a descriptor by its name.
    pub(super) fn take(&mut self, name: &str) -> Option<OwnedFd> {
        let place = self.held.iter().position(|(held, _)| held == name)?;
        Some(self.held.swap_remove(place).1)
    }

    /// Decides for the daemon of this root and store.
    pub(super) fn decide(&mut self, root: &Path, store: u64) -> Result<Course, NodeError> {
        let Some(record) = self.record.take() else {
            let lost = self.mounted.map(|_| "nobody knows its connection");
            return Ok(Course::Anew(lost));
        };
        let device = self.take(&connection_name(&record.connection));
        if self.mounted != Some(record.connection.device) {
            return Ok(Course::Anew(Some("it is no longer mounted")));
        }
        let Some(device) = device else {
            return Ok(Course::Anew(Some("nobody keeps its connection")));
        };
        if record.root != root {
            return Err(NodeError::OtherRoot { root: record.root });
        }
        if record.store != store {
            // Its numbers mean other images now, and the kernel remembers what they meant.
            return Ok(Course::Anew(Some("the store is another")));
        }
        Ok(Course::Resume(device, record.connection))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    const CONNECTION: Connection = Connection {
        device: (0, 42),
        protocol: (7, 45),
        flags: 1,
        max_readahead: 1 << 17,
    };

    fn found() -> Found {
        let device = File::open("/dev/null").unwrap().into();
        Found {
            record: Some(Record::new(Path::new("/root"), 7, CONNECTION)),
            held: vec![
                ("other".to_owned(), File::open("/dev/null").unwrap().into()),
                ("fuse-0-42".to_owned(), device),
            ],
            mounted: Some((0, 42)),
        }
    }

    fn anew(mut found: Found, store: u64) -> Option<&'static str> {
        match found.decide(Path::new("/root"), store).unwrap() {
            Course::Anew(reason) => reason,
            Course::Resume(..) => panic!("it goes on"),
        }
    }

    #[test]
    fn all_must_fit_to_go_on() {
        let course = found().decide(Path::new("/root"), 7).unwrap();
        assert!(matches!(course, Course::Resume(_, CONNECTION)));
        assert_eq!(anew(found(), 8), Some("the store is another"));
        let mut not_kept = found();
        not_kept.held.pop();
        assert_eq!(anew(not_kept, 7), Some("nobody keeps its connection"));
        for mounted in [None, Some((0, 43))] {
            let elsewhere = Found { mounted, ..found() };
            assert_eq!(anew(elsewhere, 7), Some("it is no longer mounted"));
        }
        let unknown = Found {
            record: None,
            ..found()
        };
        assert_eq!(anew(unknown, 7), Some("nobody knows its connection"));
    }

    #[test]
    fn a_first_start_has_lost_nothing() {
        let first = Found {
            record: None,
            held: Vec::new(),
            mounted: None,
        };
        assert_eq!(anew(first, 7), None);
    }

    #[test]
    fn containers_of_another_root_are_not_cut_off() {
        let refused = found().decide(Path::new("/elsewhere"), 7).unwrap_err();
        assert!(refused.to_string().contains("; hint: "), "{refused}");
    }
}
