//! What one daemon writes down for the next: the FUSE connection that is kept. It lies in the run folder, as it is void
//! after a reboot.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use fuse::Connection;
use serde::{Deserialize, Serialize};

use super::node::{NodeError, failed};

/// Version of the record. One of another version is refused rather than guessed at.
pub(crate) const VERSION: u32 = 1;

/// Longest record that is read, in bytes: a few paths and numbers.
const LEN_MAX: u64 = 64 << 10;

/// The record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    /// Which root the images came from.
    pub(super) root: PathBuf,
    /// Which store numbered them: numbers of another mean other files.
    pub(super) store: u64,
    /// The connection.
    #[serde(with = "ConnectionFields")]
    pub(super) connection: Connection,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Connection")]
struct ConnectionFields {
    device: (u32, u32),
    protocol: (u32, u32),
    flags: u64,
    max_readahead: u32,
}

/// What every version of the record has.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

impl Record {
    pub(super) fn new(root: &Path, store: u64, connection: Connection) -> Self {
        Self {
            version: VERSION,
            root: root.to_owned(),
            store,
            connection,
        }
    }

    /// Reads the record; none is no error.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, NodeError> {
        let read = || {
            let file = File::open(path)?;
            if file.metadata()?.len() > LEN_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            io::read_to_string(file)
        };
        let text = match read() {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", path)(error)),
        };
        let parse = |error: serde_json::Error| failed("read", path)(error.into());
        let Head { version } = serde_json::from_str(&text).map_err(parse)?;
        if version != VERSION {
            return Err(NodeError::RecordVersion {
                path: path.to_owned(),
                version,
            });
        }
        serde_json::from_str(&text).map(Some).map_err(parse)
    }

    /// Writes the record. It is there as a whole or not at all.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().unwrap_or(path);
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&mut file, self)?;
        file.flush()?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    }

    /// Removes the record, if there is one.
    pub(super) fn remove(path: &Path) -> Result<(), NodeError> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let connection = Connection {
            device: (0, 42),
            protocol: (7, 45),
            flags: 1 << 39 | 1,
            max_readahead: 1 << 17,
        };
        Record::new(Path::new("/root"), 7, connection)
    }

    #[test]
    fn what_was_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("connection.json");
        assert_eq!(Record::read(&path).unwrap(), None);
        record().write(&path).unwrap();
        assert_eq!(Record::read(&path).unwrap(), Some(record()));
        Record::remove(&path).unwrap();
        Record::remove(&path).unwrap();
        assert_eq!(Record::read(&path).unwrap(), None);
    }

    #[test]
    fn other_versions_and_damage_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("connection.json");
        fs::write(&path, r#"{"version":2,"news":true}"#).unwrap();
        let error = Record::read(&path).unwrap_err();
        assert!(
            matches!(error, NodeError::RecordVersion { version: 2, .. }),
            "{error}"
        );
        assert!(error.to_string().contains("; hint: "), "{error}");
        fs::write(&path, "{").unwrap();
        assert!(Record::read(&path).is_err());
    }
}
