//! The one database: which snapshots and images exist. One transaction per call.
//!
//! | table | from | to |
//! |---|---|---|
//! | `counters` | name | last number given out, the version of this layout, and which store this is |
//! | `snapshots` | snapshot number | the row, as JSON |
//! | `names` | backend name | snapshot number |
//! | `remote` | (`snapshot.ref`, parent's name) | number of the data layer that stands for it |
//! | `children` | snapshot number | numbers of the snapshots on it |
//! | `images` | image number | number of its bootstrap snapshot |
//!
//! Numbers only grow. So a folder whose number is at most the last one given out and that has no row is
//! garbage for certain, whatever else goes on at the same time.

mod row;
#[cfg(test)]
mod tests;
mod write;

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use fuse::ImageId;
use redb::{
    Database, MultimapTableDefinition, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition,
};

pub use row::{Content, Kind, Labels, Origin, Parent, Role, Snapshot, SnapshotId, Usage};
pub use write::{LabelChange, NewSnapshot};

use crate::{Error, Result};

/// Version of the tables' layout. A store with another is refused rather than guessed at.
pub(crate) const VERSION: u64 = 1;

/// Highest image number: the FUSE server keeps images in the upper bits of its node numbers.
const IMAGE_ID_MAX: u64 = (1 << 23) - 1;

/// Longest chain of parents that is followed: far beyond any image, and a bound if a row were damaged.
const CHAIN_LEN_MAX: usize = 4096;

const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");
const SNAPSHOTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("snapshots");
const NAMES: TableDefinition<'_, &str, u64> = TableDefinition::new("names");
const REMOTE: TableDefinition<'_, (&str, &str), u64> = TableDefinition::new("remote");
const CHILDREN: MultimapTableDefinition<'_, u64, u64> = MultimapTableDefinition::new("children");
const IMAGES: TableDefinition<'_, u32, u64> = TableDefinition::new("images");

const VERSION_KEY: &str = "version";
const IDENTITY: &str = "identity";
const LAST_SNAPSHOT: &str = "last snapshot";
const LAST_IMAGE: &str = "last image";

/// Which snapshot folders may exist.
#[derive(Debug, Clone)]
pub struct Census {
    /// Last number given out. Folders beyond it are on their way in.
    pub last: SnapshotId,
    /// Numbers with a row.
    pub live: HashSet<SnapshotId>,
}

/// The database. Calls block on the disk; async code calls them on a blocking thread.
#[derive(Debug)]
pub struct Store {
    db: Database,
    identity: u64,
}

impl Store {
    /// Opens the database, or creates an empty one. The caller holds the lock on the root.
    pub fn open(path: &Path) -> Result<Self> {
        let db = Database::create(path)?;
        let txn = db.begin_write()?;
        let identity = {
            let mut counters = txn.open_table(COUNTERS)?;
            let version = counters.get(VERSION_KEY)?.map(|version| version.value());
            match version {
                None => drop(counters.insert(VERSION_KEY, VERSION)?),
                Some(VERSION) => {}
                Some(other) => {
                    return Err(Error::Invalid {
                        field: "store",
                        reason: format!(
                            "{} has layout version {other}, this slipwayd knows {VERSION}; hint: go on with the \
                             slipwayd that wrote it",
                            path.display()
                        ),
                    });
                }
            }
            txn.open_table(SNAPSHOTS)?;
            txn.open_table(NAMES)?;
            txn.open_table(REMOTE)?;
            txn.open_multimap_table(CHILDREN)?;
            txn.open_table(IMAGES)?;
            let known = counters.get(IDENTITY)?.map(|known| known.value());
            match known {
                Some(known) => known,
                None => {
                    let fresh = random()?;
                    counters.insert(IDENTITY, fresh)?;
                    fresh
                }
            }
        };
        txn.commit()?;
        Ok(Self { db, identity })
    }

    /// A number that no other store has: the numbers it gave out mean nothing together with another one's.
    pub fn identity(&self) -> u64 {
        self.identity
    }

    /// Finds a snapshot by name.
    pub fn get(&self, name: &str) -> Result<Snapshot> {
        let txn = self.db.begin_read()?;
        by_name(&txn, name)
    }

    /// The named snapshot and all it stands on, topmost first.
    pub fn chain(&self, name: &str) -> Result<Vec<Snapshot>> {
        let txn = self.db.begin_read()?;
        let mut chain = vec![by_name(&txn, name)?];
        while let Some(parent) = chain.last().and_then(|snapshot| snapshot.parent.as_ref()) {
            if chain.len() >= CHAIN_LEN_MAX {
                return Err(Error::corrupted(format!(
                    "snapshot {name:?} has no end of parents"
                )));
            }
            let parent = by_id(&txn, parent.id)?;
            chain.push(parent);
        }
        Ok(chain)
    }

    /// Whether a committed snapshot stands for this reference on this parent.
    pub fn has_remote(&self, reference: &str, parent: &str) -> Result<bool> {
        Ok(self
            .db
            .begin_read()?
            .open_table(REMOTE)?
            .get((reference, parent))?
            .is_some())
    }

    /// Up to `count_max` snapshots with numbers above `after`, in order. A short page is the last one.
    pub fn page(&self, after: SnapshotId, count_max: usize) -> Result<Vec<Snapshot>> {
        let txn = self.db.begin_read()?;
        let rows = txn.open_table(SNAPSHOTS)?;
        rows.range(after.0.saturating_add(1)..)?
            .take(count_max)
            .map(|entry| decode(entry?.1.value()))
            .collect()
    }

    /// All images with their bootstrap snapshots.
    pub fn images(&self) -> Result<Vec<(ImageId, Snapshot)>> {
        let txn = self.db.begin_read()?;
        let images = txn.open_table(IMAGES)?;
        images
            .iter()?
            .map(|entry| {
                let (image, snapshot) = entry?;
                Ok((ImageId(image.value()), by_id(&txn, SnapshotId(snapshot.value()))?))
            })
            .collect()
    }

    /// Counts the folders that have a right to exist.
    pub fn census(&self) -> Result<Census> {
        let txn = self.db.begin_read()?;
        let last = txn
            .open_table(COUNTERS)?
            .get(LAST_SNAPSHOT)?
            .map_or(0, |last| last.value());
        let rows = txn.open_table(SNAPSHOTS)?;
        let live = rows
            .iter()?
            .map(|entry| Ok(SnapshotId(entry?.0.value())))
            .collect::<Result<_>>()?;
        Ok(Census {
            last: SnapshotId(last),
            live,
        })
    }
}

fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    let filled = File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes));
    filled.map_err(redb::StorageError::Io)?;
    Ok(u64::from_ne_bytes(bytes))
}

fn by_name(txn: &ReadTransaction, name: &str) -> Result<Snapshot> {
    let id = txn.open_table(NAMES)?.get(name)?.map(|id| SnapshotId(id.value()));
    by_id(
        txn,
        id.ok_or_else(|| Error::NotFound {
            name: name.to_owned(),
        })?,
    )
}

fn by_id(txn: &ReadTransaction, id: SnapshotId) -> Result<Snapshot> {
    match txn.open_table(SNAPSHOTS)?.get(id.0)? {
        Some(row) => decode(row.value()),
        None => Err(Error::corrupted(format!("snapshot {} has no row", id.0))),
    }
}

fn decode(row: &[u8]) -> Result<Snapshot> {
    serde_json::from_slice(row).map_err(Error::corrupted)
}

fn encode(snapshot: &Snapshot) -> Result<Vec<u8>> {
    serde_json::to_vec(snapshot).map_err(Error::corrupted)
}
