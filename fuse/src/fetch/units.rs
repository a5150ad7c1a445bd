//! The units of one blob, numbered, and the chunks that each of them holds. Pure.

use std::collections::HashMap;

use rafs::ChunkRef;
use rafs::blob::{MetaError, Piece, Unit, Units};
use rafs::image::Blob;

use crate::decode::{self, Expanded};

/// Which chunks come with which unit. Units are numbered in the order of their stored bytes, as [`plan`] expects.
///
/// [`plan`]: super::plan
#[derive(Debug)]
pub(super) struct UnitMap {
    units: Units,
    count: u32,
    /// `None`: every chunk is a unit, and its number is that of the unit.
    groups: Option<Groups>,
}

#[derive(Debug)]
struct Groups {
    /// Numbers of the chunks in each unit, ascending, at least one.
    chunks: Vec<Vec<u32>>,
    numbers: HashMap<Unit, u32>,
}

impl UnitMap {
    /// For a blob whose chunks stand alone.
    pub(super) fn single(blob: &Blob) -> Self {
        UnitMap {
            units: Units::single(blob),
            count: blob.chunk_count,
            groups: None,
        }
    }

    /// For a blob whose chunks share units. `stored` are the bytes at [`Blob::meta_range`], `chunks` those that the
    /// image lists, by number. One whose info is bad is left out: only who reads it learns of that.
    pub(super) fn shared(
        blob: &Blob,
        stored: &[u8],
        chunks: impl Iterator<Item = ChunkRef>,
    ) -> Result<Self, MetaError> {
        let units = Units::read(blob, stored)?;
        let mut by_unit: HashMap<Unit, Vec<u32>> = HashMap::new();
        for chunk in chunks {
            if let Ok(piece) = units.piece(&chunk) {
                by_unit.entry(piece.unit).or_default().push(chunk.index);
            }
        }
        let mut sorted: Vec<_> = by_unit.into_iter().collect();
        sorted.sort_unstable_by_key(|(unit, chunks)| (unit.stored.offset, unit.stored.len, chunks[0]));
        // Never more than chunks, whose count is a u32.
        let count = u32::try_from(sorted.len()).unwrap_or(u32::MAX);
        let numbers = (0..).zip(&sorted).map(|(number, (unit, _))| (*unit, number));
        Ok(UnitMap {
            units,
            count,
            groups: Some(Groups {
                numbers: numbers.collect(),
                chunks: sorted.into_iter().map(|(_, chunks)| chunks).collect(),
            }),
        })
    }

    /// Which part of which unit a chunk is.
    pub(super) fn piece(&self, chunk: &ChunkRef) -> Result<Piece, MetaError> {
        self.units.piece(chunk)
    }

    /// The number of the unit that a chunk is in.
    pub(super) fn number(&self, chunk: &ChunkRef) -> Result<u32, MetaError> {
        let unit = self.units.piece(chunk)?.unit;
        let missing = MetaError::Corrupt {
            what: "a chunk that the image does not list is in a unit",
            offset: 0,
        };
        match &self.groups {
            None => Ok(chunk.index),
            Some(groups) => groups.numbers.get(&unit).copied().ok_or(missing),
        }
    }

    /// How many units there are, numbered from 0.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// The chunks of a unit, by number; none if there is no such unit.
    pub(super) fn chunks(&self, number: u32) -> impl Iterator<Item = u32> {
        let group = (self.groups.as_ref()).and_then(|groups| groups.chunks.get(number as usize));
        let single = self.groups.is_none().then_some(number);
        single.into_iter().chain(group.into_iter().flatten().copied())
    }

    /// Expands a unit.
    pub(super) fn expand(&self, unit: &Unit, stored: &[u8]) -> Result<Expanded, rafs::chunk::DecodeError> {
        decode::expand(&self.units, unit, stored)
    }
}
