//! The memory that the members of all layers of an image may take together.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use rafs::ChunkRef;
use rafs::tree::ChunkId;

use super::{Action, Change, Content};
use crate::error::LayerError;
use crate::name::CleanPath;

/// Bytes that members may take: those of all layers are kept until they are merged, and the merged file system takes
/// about as much again. Two and a half million files with ordinary names have less; an archive of empty files shrinks a
/// thousandfold, so the length of the layers is no bound.
const LEN_MAX: usize = 1 << 30;
/// What an allocator keeps beside each piece of memory, and the steps in which it gives them out.
const HEAP_HEADER: usize = 8;
const HEAP_STEP: usize = 16;
const HEAP_LEN_MIN: usize = 32;
/// Attributes in a node of a B-tree, when there is more than one: it is at least half full.
const NODE_ENTRIES_MIN: usize = 5;
/// Attributes that a node has room for.
const NODE_ENTRIES_MAX: usize = 11;
/// Room for changes that is taken at first.
const CHANGES_MIN: usize = 64;
/// A slot with its chunk: the chunk's number, its place in the file's list, and what the blob keeps of it. The lists
/// grow by doubling.
const SLOT_LEN: usize = 2 * size_of::<u32>() + size_of::<ChunkId>() + size_of::<ChunkRef>();

/// Memory for the members of all layers of an image; shared by those that are read at the same time.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    taken: AtomicUsize,
}

impl Default for Budget {
    /// As much as a conversion may take.
    fn default() -> Self {
        Budget::new(LEN_MAX)
    }
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Budget {
            limit,
            taken: AtomicUsize::new(0),
        }
    }

    /// Takes memory, before it is allocated.
    fn take(&self, len: usize) -> Result<(), LayerError> {
        // Nothing but the sum depends on it, so order does not matter. What failed ends the conversion.
        let before = self.taken.fetch_add(len, Ordering::Relaxed);
        match before.saturating_add(len) > self.limit {
            true => Err(LayerError::TooManyMembers { limit: self.limit }),
            false => Ok(()),
        }
    }

    /// Takes what a member keeps on the heap, and room for it among `changes`.
    pub(super) fn take_member(
        &self,
        changes: &mut Vec<Change>,
        path: &CleanPath,
        action: &Action,
    ) -> Result<(), LayerError> {
        self.take(heap_len(path.as_bytes().len()) + action_len(action))?;
        if changes.len() == changes.capacity() {
            let more = changes.len().max(CHANGES_MIN);
            self.take(more.saturating_mul(size_of::<Change>()))?;
            changes.reserve_exact(more);
        }
        Ok(())
    }

    /// Takes what pieces of content keep, before they are read.
    pub(super) fn take_slots(&self, count: u32) -> Result<(), LayerError> {
        self.take(SLOT_LEN.saturating_mul(count as usize))
    }
}

/// Bytes that a piece of memory really costs.
fn heap_len(len: usize) -> usize {
    match len {
        0 => 0,
        len => (len + HEAP_HEADER).next_multiple_of(HEAP_STEP).max(HEAP_LEN_MIN),
    }
}

fn action_len(action: &Action) -> usize {
    match action {
        Action::Whiteout | Action::Opaque => 0,
        Action::Link { target } => heap_len(target.as_bytes().len()),
        Action::Put { attr, content } => {
            let target = match content {
                Content::Symlink(target) => heap_len(target.len()),
                Content::Directory | Content::Regular { .. } | Content::Special { .. } => 0,
            };
            target + xattrs_len(&attr.xattrs)
        }
    }
}

fn xattrs_len(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> usize {
    let node_len = heap_len(NODE_ENTRIES_MAX * 2 * size_of::<Vec<u8>>());
    let nodes_len = match xattrs.len() {
        0 => 0,
        count => node_len * (1 + count / NODE_ENTRIES_MIN),
    };
    let pairs = xattrs
        .iter()
        .map(|(name, value)| heap_len(name.len()) + heap_len(value.len()));
    nodes_len + pairs.sum::<usize>()
}
