//! Directories as blocks: entries in byte order, names behind the entries of each block.

use zerocopy::IntoBytes;

use super::BuildError;
use crate::layout::{BLOCK, Dirent, NAME_MAX};
use crate::tree::{FileType, InodeId, Tree};

/// Bytes of an entry without its name.
const DIRENT_LEN: usize = size_of::<Dirent>();

/// A name and what it points to.
#[derive(Clone, Copy)]
pub(super) struct Name<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) inode: InodeId,
}

/// The names of a directory in byte order, `.` and `..` among them (names such as `-x` sort before those).
pub(super) fn names(tree: &Tree, directory: InodeId, parent: InodeId) -> Vec<Name<'_>> {
    let own = tree.names(directory).into_iter().flatten();
    let mut names: Vec<_> = own.map(|(name, &inode)| Name { bytes: name, inode }).collect();
    for (bytes, inode) in [(b".".as_slice(), directory), (b"..", parent)] {
        let at = names.partition_point(|name| name.bytes < bytes);
        names.insert(at, Name { bytes, inode });
    }
    names
}

/// Refuses a name that readers would refuse.
pub(super) fn check(directory: InodeId, name: &[u8]) -> Result<(), BuildError> {
    let what = match name {
        b"" => "is empty",
        b"." | b".." => "is reserved",
        _ if name.len() > NAME_MAX => "is longer than 255 bytes",
        _ if name.contains(&b'/') || name.contains(&0) => "holds a slash or a NUL",
        _ => return Ok(()),
    };
    Err(BuildError::Name {
        directory,
        name: name.to_vec(),
        what,
    })
}

/// Cuts names into runs of which each fills one block.
pub(super) fn blocks<'n, 'a>(names: &'n [Name<'a>]) -> impl Iterator<Item = &'n [Name<'a>]> {
    let mut rest = names;
    std::iter::from_fn(move || {
        let mut used = 0;
        let fits = |name: &&Name<'_>| {
            used += DIRENT_LEN + name.bytes.len();
            used as u64 <= BLOCK
        };
        let count = rest.iter().take_while(fits).count();
        let block;
        (block, rest) = rest.split_at(count);
        (!block.is_empty()).then_some(block)
    })
}

/// Bytes of a block that holds `names`.
fn block_len(names: &[Name<'_>]) -> usize {
    names.iter().map(|name| DIRENT_LEN + name.bytes.len()).sum()
}

/// Bytes of a directory: whole blocks, and as much of the last as is used.
pub(super) fn len(names: &[Name<'_>]) -> u64 {
    let (count, last) = blocks(names).fold((0, 0), |(count, _), block| (count + 1, block_len(block)));
    match count {
        0 => 0_u64,
        _ => (count - 1) * BLOCK + last as u64,
    }
}

/// Makes a directory's bytes. `describe` gives the inode number and kind behind a name.
pub(super) fn bytes(names: &[Name<'_>], describe: impl Fn(InodeId) -> (u64, FileType)) -> Vec<u8> {
    let mut bytes = Vec::new();
    for block in blocks(names) {
        let start = bytes.len().next_multiple_of(BLOCK as usize);
        bytes.resize(start, 0);
        let mut name_offset = block.len() * DIRENT_LEN;
        for name in block {
            let (nid, file_type) = describe(name.inode);
            let entry = Dirent {
                nid: nid.into(),
                name_offset: u16::try_from(name_offset).expect("a block has 4096 bytes").into(),
                file_type: file_type.to_disk(),
                reserved: 0,
            };
            bytes.extend_from_slice(entry.as_bytes());
            name_offset += name.bytes.len();
        }
        block.iter().for_each(|name| bytes.extend_from_slice(name.bytes));
    }
    bytes
}
