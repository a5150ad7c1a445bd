//! Large in number, small in bytes: a file beyond 4 GiB and a directory of 100,000 names.

use std::path::Path;

use anyhow::Result;

use super::layer::{Entry, Kind, SparsePiece};
use super::layout::{Compression, Layout};

/// Names in the directory `many`.
pub const NAME_COUNT: usize = 100_000;
/// Size of the file `sparse`: beyond 32 bits, and no multiple of anything.
pub const SPARSE_LEN: u64 = (4 << 30) + 12_345;

/// GNU's sparse files are made of such sectors; only the last piece may end within one.
const SECTOR_LEN: usize = 512;
/// Bytes of the last sector: readers insist that the last piece ends where the file does.
const TAIL_LEN: usize = (SPARSE_LEN % SECTOR_LEN as u64) as usize;

/// Writes the image `huge:1` into `dir`.
pub fn make(dir: &Path) -> Result<()> {
    let mut layout = Layout::create(dir)?;
    let many = layout.layer(Compression::Gzip, |tar| {
        tar.append(&Entry::new("many", Kind::Directory))?;
        (0..NAME_COUNT).try_for_each(|number| {
            let path = format!("many/name-{number:06}");
            tar.append(&Entry::new(&path, Kind::File(b"")))
        })
    })?;
    let sparse = layout.layer(Compression::Gzip, |tar| {
        let pieces = [
            SparsePiece {
                offset: 0,
                data: &[b'h'; SECTOR_LEN],
            },
            SparsePiece {
                offset: (4 << 30) - SECTOR_LEN as u64,
                data: &[b'a'; 2 * SECTOR_LEN],
            },
            SparsePiece {
                offset: SPARSE_LEN - TAIL_LEN as u64,
                data: &[b't'; TAIL_LEN],
            },
        ];
        tar.sparse("sparse", SPARSE_LEN, &pieces)
    })?;
    layout.image("huge:1", &[many, sparse], &["/bin/true"])
}
