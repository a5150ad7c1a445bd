//! The calls that change the store.

use std::time::SystemTime;

use redb::{ReadableMultimapTable, ReadableTable, WriteTransaction};

use super::row::{Content, Kind, Labels, Origin, Parent, Role, Snapshot, SnapshotId, Usage};
use super::{CHILDREN, COUNTERS, IMAGE_ID_MAX, IMAGES, LAST_IMAGE, LAST_SNAPSHOT, NAMES, REMOTE, SNAPSHOTS};
use super::{Store, decode, encode};
use crate::{Error, Result};

/// A snapshot to be made.
#[derive(Debug, Clone)]
pub struct NewSnapshot {
    /// Key. (A data layer is named by its reference.)
    pub name: String,
    /// Parent's name, empty for a base layer.
    pub parent: String,
    /// Kind.
    pub kind: Kind,
    /// What it is to a lazy image.
    pub role: Role,
    /// Image it is made for.
    pub origin: Option<Origin>,
    /// Labels, without empty values.
    pub labels: Labels,
}

/// How `Update` changes labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelChange {
    /// All labels are replaced.
    Replace(Labels),
    /// These are set, or deleted where the value is `None`.
    Edit(Vec<(String, Option<String>)>),
}

impl Store {
    /// Adds a snapshot. `place` is called inside the transaction to move the prepared folder to the number it is
    /// given; if it fails nothing is stored.
    pub fn create(
        &self,
        new: &NewSnapshot,
        place: impl FnOnce(SnapshotId) -> Result<()>,
    ) -> Result<Snapshot> {
        let txn = self.db.begin_write()?;
        require_free(&txn, &new.name)?;
        let snapshot = insert(&txn, new, new.name.clone(), None)?;
        place(snapshot.id)?;
        txn.commit()?;
        Ok(snapshot)
    }

    /// Adds the committed snapshot that stands for a layer in a registry, unless there is one already.
    /// It is named by its reference where that name is free. Returns whether it is new.
    pub fn create_remote(&self, reference: &str, new: &NewSnapshot) -> Result<bool> {
        let txn = self.db.begin_write()?;
        let key = (reference, new.parent.as_str());
        if txn.open_table(REMOTE)?.get(key)?.is_some() {
            return Ok(false);
        }
        let name = match find(&txn, reference)? {
            None => reference.to_owned(),
            // The same chain on another parent's name, as when two namespaces unpacked its base themselves.
            Some(_) => format!("{reference}@{}", new.parent),
        };
        require_free(&txn, &name)?;
        let snapshot = insert(&txn, new, name, Some(reference.to_owned()))?;
        txn.open_table(REMOTE)?.insert(key, snapshot.id.0)?;
        txn.commit()?;
        Ok(true)
    }

    /// Turns an active snapshot into a committed one with a new name and new labels. A bootstrap gets its image
    /// number here.
    pub fn commit(&self, key: &str, name: &str, labels: Labels, content: Content) -> Result<Snapshot> {
        let txn = self.db.begin_write()?;
        let mut snapshot = require(&txn, key)?;
        if snapshot.kind != Kind::Active {
            return Err(Error::WrongKind {
                name: key.into(),
                kind: snapshot.kind,
                operation: "committed",
            });
        }
        require_free(&txn, name)?;
        let now = SystemTime::now();
        snapshot = Snapshot {
            name: name.to_owned(),
            kind: Kind::Committed,
            labels,
            created: now,
            updated: now,
            usage: content.usage,
            bootstrap_digest: content.bootstrap,
            ..snapshot
        };
        if snapshot.role == Role::Bootstrap {
            let image = next(&txn, LAST_IMAGE)?;
            let image = u32::try_from(image)
                .ok()
                .filter(|image| u64::from(*image) <= IMAGE_ID_MAX);
            let image = image.ok_or_else(|| Error::corrupted("all image numbers are used up"))?;
            txn.open_table(IMAGES)?.insert(image, snapshot.id.0)?;
            snapshot.image = Some(image);
        }
        {
            let mut names = txn.open_table(NAMES)?;
            names.remove(key)?;
            names.insert(name, snapshot.id.0)?;
        }
        put(&txn, &snapshot)?;
        txn.commit()?;
        Ok(snapshot)
    }

    /// Changes labels.
    pub fn update(&self, name: &str, change: LabelChange) -> Result<Snapshot> {
        let txn = self.db.begin_write()?;
        let mut snapshot = require(&txn, name)?;
        match change {
            LabelChange::Replace(labels) => snapshot.labels = labels,
            LabelChange::Edit(edits) => {
                for (key, value) in edits {
                    match value.filter(|value| !value.is_empty()) {
                        Some(value) => snapshot.labels.insert(key, value),
                        None => snapshot.labels.remove(&key),
                    };
                }
            }
        }
        snapshot.updated = SystemTime::now();
        put(&txn, &snapshot)?;
        txn.commit()?;
        Ok(snapshot)
    }

    /// Forgets a snapshot. Its folder stays for the cleanup. Returns what was forgotten.
    pub fn remove(&self, name: &str) -> Result<Snapshot> {
        let txn = self.db.begin_write()?;
        let snapshot = require(&txn, name)?;
        {
            let mut children = txn.open_multimap_table(CHILDREN)?;
            if children.get(snapshot.id.0)?.next().is_some() {
                return Err(Error::HasChildren {
                    name: name.to_owned(),
                });
            }
            if let Some(parent) = &snapshot.parent {
                children.remove(parent.id.0, snapshot.id.0)?;
            }
            txn.open_table(NAMES)?.remove(name)?;
            txn.open_table(SNAPSHOTS)?.remove(snapshot.id.0)?;
            if let Some(reference) = &snapshot.remote {
                txn.open_table(REMOTE)?
                    .remove((reference.as_str(), snapshot.parent_name()))?;
            }
            if let Some(image) = snapshot.image {
                txn.open_table(IMAGES)?.remove(image)?;
            }
        }
        txn.commit()?;
        Ok(snapshot)
    }
}

fn find(txn: &WriteTransaction, name: &str) -> Result<Option<SnapshotId>> {
    Ok(txn.open_table(NAMES)?.get(name)?.map(|id| SnapshotId(id.value())))
}

fn require(txn: &WriteTransaction, name: &str) -> Result<Snapshot> {
    let id = find(txn, name)?.ok_or_else(|| Error::NotFound {
        name: name.to_owned(),
    })?;
    match txn.open_table(SNAPSHOTS)?.get(id.0)? {
        Some(row) => decode(row.value()),
        None => Err(Error::corrupted(format!("snapshot {name:?} has no row"))),
    }
}

fn require_free(txn: &WriteTransaction, name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::Invalid {
            field: "name",
            reason: "it is empty".to_owned(),
        });
    }
    match find(txn, name)? {
        None => Ok(()),
        Some(_) => Err(Error::AlreadyExists {
            name: name.to_owned(),
        }),
    }
}

fn next(txn: &WriteTransaction, counter: &str) -> Result<u64> {
    let mut counters = txn.open_table(COUNTERS)?;
    let last = counters.get(counter)?.map_or(0, |last| last.value());
    let next = last
        .checked_add(1)
        .ok_or_else(|| Error::corrupted(format!("{counter} overflows")))?;
    counters.insert(counter, next)?;
    Ok(next)
}

fn put(txn: &WriteTransaction, snapshot: &Snapshot) -> Result<()> {
    txn.open_table(SNAPSHOTS)?
        .insert(snapshot.id.0, encode(snapshot)?.as_slice())?;
    Ok(())
}

fn insert(
    txn: &WriteTransaction,
    new: &NewSnapshot,
    name: String,
    remote: Option<String>,
) -> Result<Snapshot> {
    let parent = match new.parent.as_str() {
        "" => None,
        parent => Some(require(txn, parent)?),
    };
    if let Some(parent) = parent.as_ref().filter(|parent| parent.kind != Kind::Committed) {
        return Err(Error::ParentNotCommitted {
            parent: parent.name.clone(),
            kind: parent.kind,
        });
    }
    let id = SnapshotId(next(txn, LAST_SNAPSHOT)?);
    let now = SystemTime::now();
    let snapshot = Snapshot {
        id,
        name,
        parent: parent.map(|parent| Parent {
            id: parent.id,
            name: parent.name,
        }),
        kind: new.kind,
        role: new.role,
        origin: new.origin.clone(),
        remote,
        labels: new.labels.clone(),
        created: now,
        updated: now,
        usage: Usage::default(),
        image: None,
        bootstrap_digest: None,
    };
    txn.open_table(NAMES)?.insert(snapshot.name.as_str(), id.0)?;
    if let Some(parent) = &snapshot.parent {
        txn.open_multimap_table(CHILDREN)?.insert(parent.id.0, id.0)?;
    }
    put(txn, &snapshot)?;
    Ok(snapshot)
}
