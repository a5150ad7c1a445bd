//! A text that accounts for every byte of a bootstrap, in order.
//!
//! Each line starts with the byte offset of what it shows: a structure with its fields by name, a run of zeros, or
//! bytes in hex that nothing lays claim to. Indented lines go on with the structure above. Two files have the same
//! dump only if they are equal, so that a comparison of dumps shows every difference, and a byte or flag that this
//! reader knows nothing of stands out.

mod collect;
mod field;
mod show;

use std::fmt::{self, Write};
use std::ops::Range;

use super::Image;
use crate::layout::BLOCK;
use collect::Collector;

/// Bytes of a line of hex.
const HEX_LINE: usize = 32;

/// Something that lies in the file.
struct Piece<'a> {
    range: Range<u64>,
    kind: Kind<'a>,
    /// Where the file's tree has it, if it does.
    path: Option<&'a str>,
}

/// What a piece is.
#[derive(Clone, Copy)]
enum Kind<'a> {
    SuperBlock,
    ExtendedSuperBlock,
    Device,
    Blob,
    Prefetch,
    Chunk,
    Inode,
    Xattrs,
    ChunkIndexes,
    /// Entries and names of a directory's block, as many as there are.
    Directory(usize),
    Symlink,
    /// A fault that kept the reader from going on here. Covers no bytes.
    Note(&'a str),
}

/// Writes the dump of the file. A file that cannot be opened is dumped too: as far as its parts are known, and why
/// it cannot be opened.
///
/// # Errors
/// Those of `out` only.
pub fn dump(bytes: &[u8], out: &mut impl Write) -> fmt::Result {
    let collected = match Image::open(bytes) {
        Ok(image) => Collector::of(&image),
        Err(error) => {
            writeln!(out, "# {error}")?;
            Collector::unopened(bytes)
        }
    };
    let mut next = 0;
    for piece in collected.pieces() {
        if let Kind::Note(what) = piece.kind {
            // What it is about may lie outside the file.
            let at = piece.range.start.clamp(next, bytes.len() as u64);
            gap(bytes, next..at, out)?;
            next = at;
            writeln!(out, "# byte {}: {what}", piece.range.start)?;
            continue;
        }
        if piece.range.start < next || piece.range.end > bytes.len() as u64 {
            writeln!(
                out,
                "# bytes {}..{} overlap what is before, or lie outside the file",
                piece.range.start, piece.range.end
            )?;
            continue;
        }
        gap(bytes, next..piece.range.start, out)?;
        show::piece(bytes, &piece, out)?;
        next = piece.range.end;
    }
    gap(bytes, next..bytes.len() as u64, out)?;
    writeln!(out, "{:#010x} end", bytes.len())
}

/// Shows bytes that no structure claims, block by block, zeros as such.
fn gap(bytes: &[u8], range: Range<u64>, out: &mut impl Write) -> fmt::Result {
    let mut start = range.start as usize;
    let end = range.end as usize;
    while start < end {
        let zeros = bytes[start..end].iter().take_while(|byte| **byte == 0).count();
        if zeros > 0 {
            let name = match zeros < BLOCK as usize {
                true => "padding",
                false => "zeros",
            };
            writeln!(out, "{start:#010x} {name} {zeros}")?;
            start += zeros;
            continue;
        }
        let line = &bytes[start..end.min(start + HEX_LINE)];
        // Zeros at the end of a line start a run of their own.
        let len = line.len() - line.iter().rev().take_while(|byte| **byte == 0).count();
        write!(out, "{start:#010x} bytes ")?;
        field::hex(&line[..len], out)?;
        writeln!(out)?;
        start += len;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_no_bootstraps_are_dumped() {
        let mut text = String::new();
        dump(&[[0; 100].as_slice(), b"abc", &[0; 2]].concat(), &mut text).unwrap();
        let expected = "\
# not a RAFS v6 bootstrap: the file is too short for a superblock
0x00000000 padding 100
0x00000064 bytes 616263
0x00000067 padding 2
0x00000069 end
";
        assert_eq!(text, expected);
    }
}
