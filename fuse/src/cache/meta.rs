//! The chunk infos of a blob on disk, as they are stored in the blob that holds them.
//!
//! A header names the place they are from and their sha256, so a torn or foreign file is told from a good one and
//! nothing has to be synced.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};
use zerocopy::byteorder::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::BlobId;

/// First bytes of the file; the last digit is the version of the layout.
const MAGIC: [u8; 8] = *b"SLWMETA1";

/// Where an image says that chunk infos lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MetaPlace {
    /// The blob that holds them.
    pub(crate) blob: BlobId,
    /// Their bytes, with their header, in that blob.
    pub(crate) range: Range<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    blob_id: [u8; 32],
    start: U64,
    len: U64,
    digest: [u8; 32],
}

fn header(place: &MetaPlace, stored: &[u8]) -> Header {
    Header {
        magic: MAGIC,
        blob_id: place.blob.0,
        start: place.range.start.into(),
        len: place.range.end.saturating_sub(place.range.start).into(),
        digest: Sha256::digest(stored).into(),
    }
}

/// Reads the file. `None` if it is not there, from another place, or damaged.
pub(super) fn load(path: &Path, place: &MetaPlace) -> Option<Vec<u8>> {
    let mut file = File::open(path).ok()?;
    let mut found = [0; size_of::<Header>()];
    file.read_exact(&mut found).ok()?;
    let len = place.range.end.checked_sub(place.range.start)?;
    let mut stored = Vec::new();
    // Memory follows what the file holds, not what the place says.
    file.take(len.checked_add(1)?).read_to_end(&mut stored).ok()?;
    let is_whole = stored.len() as u64 == len && found == header(place, &stored).as_bytes();
    is_whole.then_some(stored)
}

/// Writes the file.
///
/// # Errors
/// The file system refuses. What the file holds then is no whole file.
pub(super) fn save(path: &Path, place: &MetaPlace, stored: &[u8]) -> io::Result<()> {
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(header(place, stored).as_bytes())?;
    file.write_all(stored)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> MetaPlace {
        MetaPlace {
            blob: BlobId::parse(&"0f".repeat(32)).unwrap(),
            range: 7..18,
        }
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta");
        assert_eq!(load(&path, &place()), None);
        for content in [b"chunk infos", b"other infos"] {
            save(&path, &place(), content).unwrap();
            assert_eq!(load(&path, &place()).as_deref(), Some(&content[..]));
        }
    }

    #[test]
    fn another_place_and_damage_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta");
        save(&path, &place(), b"chunk infos").unwrap();
        let other_range = MetaPlace {
            range: 8..19,
            ..place()
        };
        let other_blob = MetaPlace {
            blob: BlobId::parse(&"0e".repeat(32)).unwrap(),
            ..place()
        };
        assert_eq!(load(&path, &other_range), None);
        assert_eq!(load(&path, &other_blob), None);
        let whole = std::fs::read(&path).unwrap();
        for byte in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[byte] ^= 1;
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(load(&path, &place()), None, "byte {byte}");
        }
        for bad in [
            &whole[..whole.len() - 1],
            &whole[..3],
            &[&whole[..], b"x"].concat(),
        ] {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(load(&path, &place()), None);
        }
    }
}
