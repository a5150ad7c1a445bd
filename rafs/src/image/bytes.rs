//! Bounds-checked access to the bytes of a bootstrap.

use std::ops::Range;

use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::Error;

/// The bytes of a bootstrap.
#[derive(Clone, Copy)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    /// Length of the file.
    pub(super) fn len(self) -> u64 {
        self.0.len() as u64
    }

    /// The `len` bytes from `offset` on; `what` they are, if they are not there.
    pub(super) fn get(self, offset: u64, len: u64, what: &'static str) -> Result<&'a [u8], Error> {
        range(offset, len)
            .and_then(|range| self.0.get(range))
            .ok_or(Error::Corrupt { what, offset })
    }

    /// The structure at `offset`.
    pub(super) fn read<T>(self, offset: u64, what: &'static str) -> Result<&'a T, Error>
    where
        T: FromBytes + KnownLayout + Immutable + Unaligned,
    {
        let bytes = self.get(offset, size_of::<T>() as u64, what)?;
        T::ref_from_bytes(bytes).map_err(|_| Error::Corrupt { what, offset })
    }

    /// The structures that fill `len` bytes from `offset` on.
    pub(super) fn read_all<T>(self, offset: u64, len: u64, what: &'static str) -> Result<&'a [T], Error>
    where
        T: FromBytes + Immutable + Unaligned,
    {
        let bytes = self.get(offset, len, what)?;
        <[T]>::ref_from_bytes(bytes).map_err(|_| Error::Corrupt { what, offset })
    }
}

fn range(offset: u64, len: u64) -> Option<Range<usize>> {
    let start = usize::try_from(offset).ok()?;
    Some(start..start.checked_add(usize::try_from(len).ok()?)?)
}

/// An error unless `condition` holds.
pub(super) fn ensure(condition: bool, what: &'static str, offset: u64) -> Result<(), Error> {
    if condition {
        Ok(())
    } else {
        Err(Error::Corrupt { what, offset })
    }
}
