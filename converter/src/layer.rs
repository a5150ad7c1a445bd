//! One layer as a list of changes: what its archive says, before it is laid over anything.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;

use rafs::tree::Attr;
use rafs::{FileType, layout};

use crate::error::{LayerError, Problem};
use crate::name::{self, CleanPath, Meaning, NAME_LEN_MAX};
use crate::tarball::{Entry, Kind, Reader};

mod budget;
#[cfg(test)]
mod tests;

pub use budget::Budget;

/// Linux paths end at 4096 bytes with their NUL.
const TARGET_LEN_MAX: usize = 4095;
/// The largest value Linux stores, and the format's limit.
const XATTR_LEN_MAX: usize = 65535;
/// The format's limit for the contents of a blob: 16 TiB.
const FILE_LEN_MAX: u64 = layout::UNCOMPRESSED_MAX;
/// Bytes of all holes in the sparse members of a layer. They cost an archive nothing, and every reader all the work of
/// written bytes: nodes without RAFS write them out as zeros, and a layer with more would fill their disks.
const HOLES_LEN_MAX: u64 = 64 << 30;
/// Pieces of content in a layer. Its blob can have no more chunks; to have more pieces, most would have to repeat.
const SLOTS_MAX: u32 = layout::CHUNKS_MAX;
/// Linux's 12-bit majors and 20-bit minors.
const MAJOR_MAX: u64 = (1 << 12) - 1;
const MINOR_MAX: u64 = (1 << 20) - 1;

/// One member of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub path: CleanPath,
    /// What.
    pub action: Action,
    /// Offset of the member's header in the uncompressed layer, for messages.
    pub offset: u64,
}

/// What a member does to the file system below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Hides the name in lower layers.
    Whiteout,
    /// Hides all that lower layers have in the directory.
    Opaque,
    /// Puts a file; a directory is merged with one that is there.
    Put {
        /// Owner, mode, times, attributes.
        attr: Attr,
        /// The rest.
        content: Content,
    },
    /// Gives a file another name.
    Link {
        /// The file's other name.
        target: CleanPath,
    },
}

/// What differs by kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Directory.
    Directory,
    /// Regular file.
    Regular {
        /// Bytes.
        size: u64,
        /// Its chunks, by the order in which the layer's contents were cut.
        slots: Range<u32>,
    },
    /// Symbolic link with its target.
    Symlink(Vec<u8>),
    /// Device, FIFO or socket, with Linux's 32-bit device number.
    Special {
        /// Which.
        file_type: FileType,
        /// Device number; 0 unless a device.
        rdev: u32,
    },
}

/// A piece of a regular file: a chunk's worth, or less at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The bytes.
    pub content: Vec<u8>,
    /// Whether it is all of the file.
    pub is_whole: bool,
}

/// Reads all members of an uncompressed archive, as far as they fit in `budget`. `push` gets the contents of regular files, cut into
/// pieces of `chunk_size` bytes, in archive order; the pieces' positions in that order are the slots.
pub fn read<R: Read>(
    reader: &mut Reader<R>,
    chunk_size: u32,
    budget: &Budget,
    mut push: impl FnMut(Cut) -> Result<(), LayerError>,
) -> Result<Vec<Change>, LayerError> {
    let mut changes = Vec::new();
    let (mut next_slot, mut holes_len) = (0, 0_u64);
    while let Some(entry) = reader.next_entry()? {
        let refused = |problem| refuse(&entry.path, entry.offset, problem);
        let Some((path, mut action)) = change(&entry).map_err(refused)? else {
            continue;
        };
        holes_len = holes_len.saturating_add(entry.hole_len);
        if holes_len > HOLES_LEN_MAX {
            let limit = HOLES_LEN_MAX;
            return Err(refused(Problem::TooManyHoles { limit }));
        }
        budget.take_member(&mut changes, &path, &action)?;
        if let Action::Put {
            content: Content::Regular { size, slots },
            ..
        } = &mut action
        {
            let first = next_slot;
            next_slot = slots_end(first, *size, chunk_size)?;
            budget.take_slots(next_slot - first)?;
            let mut left = *size;
            while left > 0 {
                let len = left.min(u64::from(chunk_size));
                let mut content = vec![0; usize::try_from(len).expect("no longer than a chunk")];
                reader.read(&mut content)?;
                let is_whole = len == *size;
                push(Cut { content, is_whole })?;
                left -= len;
            }
            *slots = first..next_slot;
        }
        changes.push(Change {
            path,
            action,
            offset: entry.offset,
        });
    }
    Ok(changes)
}

/// The slot behind those of a file that begins at slot `first`.
fn slots_end(first: u32, size: u64, chunk_size: u32) -> Result<u32, LayerError> {
    let end = u64::from(first).saturating_add(size.div_ceil(u64::from(chunk_size)));
    let end = u32::try_from(end).ok().filter(|end| *end <= SLOTS_MAX);
    end.ok_or(LayerError::TooManyChunks { limit: SLOTS_MAX })
}

pub(crate) fn refuse(path: &[u8], offset: u64, problem: Problem) -> LayerError {
    LayerError::Entry {
        path: String::from_utf8_lossy(path).into_owned(),
        offset,
        problem,
    }
}

fn change(entry: &Entry) -> Result<Option<(CleanPath, Action)>, Problem> {
    let path = match name::meaning(&entry.path)? {
        Meaning::Whiteout(path) => return Ok(Some((path, Action::Whiteout))),
        Meaning::Opaque(path) => return Ok(Some((path, Action::Opaque))),
        Meaning::AufsMeta => {
            tracing::warn!(path = %entry.path.escape_ascii(), "AUFS bookkeeping skipped");
            return Ok(None);
        }
        Meaning::File(path) => path,
    };
    if path.is_root() && entry.kind != Kind::Directory {
        return Err(Problem::RootNotDirectory);
    }
    Ok(Some((path, action(entry)?)))
}

fn action(entry: &Entry) -> Result<Action, Problem> {
    let special = |file_type, rdev| Content::Special { file_type, rdev };
    let content = match entry.kind {
        Kind::HardLink => {
            return Ok(Action::Link {
                target: name::link_target(&entry.link)?,
            });
        }
        Kind::Directory => Content::Directory,
        Kind::Regular if entry.size > FILE_LEN_MAX => {
            return Err(Problem::TooLarge {
                what: "size",
                value: entry.size,
                limit: FILE_LEN_MAX,
            });
        }
        Kind::Regular => Content::Regular {
            size: entry.size,
            slots: 0..0,
        },
        Kind::Symlink => Content::Symlink(symlink_target(&entry.link)?),
        Kind::CharDevice => special(FileType::CharDevice, rdev(entry.device)?),
        Kind::BlockDevice => special(FileType::BlockDevice, rdev(entry.device)?),
        Kind::Fifo => special(FileType::Fifo, 0),
        Kind::Socket => special(FileType::Socket, 0),
    };
    Ok(Action::Put {
        attr: attr(entry)?,
        content,
    })
}

fn symlink_target(target: &[u8]) -> Result<Vec<u8>, Problem> {
    match target {
        [] => Err(Problem::EmptyTarget),
        target if target.contains(&0) => Err(Problem::NulInName),
        target if target.len() > TARGET_LEN_MAX => Err(Problem::TooLong {
            what: "the link's target",
            limit: TARGET_LEN_MAX,
        }),
        target => Ok(target.to_vec()),
    }
}

fn attr(entry: &Entry) -> Result<Attr, Problem> {
    let id = |what, value| {
        u32::try_from(value).map_err(|_| Problem::TooLarge {
            what,
            value,
            limit: u64::from(u32::MAX),
        })
    };
    let permissions = match entry.kind {
        // Every real file system shows 0777, whatever an archive says.
        Kind::Symlink => 0o777,
        _ => entry.permissions,
    };
    Ok(Attr {
        permissions,
        uid: id("uid", entry.uid)?,
        gid: id("gid", entry.gid)?,
        mtime: entry.mtime,
        xattrs: xattrs(entry)?,
    })
}

fn xattrs(entry: &Entry) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Problem> {
    let mut kept = BTreeMap::new();
    for (name, value) in &entry.xattrs {
        if !is_storable(name) {
            tracing::warn!(
                path = %entry.path.escape_ascii(),
                name = %name.escape_ascii(),
                "extended attribute that Linux would not store dropped"
            );
            continue;
        }
        if name.len() > NAME_LEN_MAX {
            return Err(Problem::TooLong {
                what: "an extended attribute's name",
                limit: NAME_LEN_MAX,
            });
        }
        if value.len() > XATTR_LEN_MAX {
            return Err(Problem::TooLong {
                what: "an extended attribute",
                limit: XATTR_LEN_MAX,
            });
        }
        kept.insert(name.clone(), value.clone());
    }
    Ok(kept)
}

/// Whether a Linux file system with all its features keeps the attribute and overlayfs shows it.
fn is_storable(name: &[u8]) -> bool {
    let longer_than = |prefix: &[u8]| name.starts_with(prefix) && name.len() > prefix.len();
    let is_known = name == b"system.posix_acl_access"
        || name == b"system.posix_acl_default"
        || [&b"user."[..], b"trusted.", b"security."]
            .into_iter()
            .any(longer_than);
    is_known && !name.starts_with(b"trusted.overlay.")
}

/// Linux's 32-bit encoding: low 8 bits of the minor, 12 bits of major, the other 12 bits of the minor.
fn rdev((major, minor): (u64, u64)) -> Result<u32, Problem> {
    for (what, value, limit) in [
        ("device major", major, MAJOR_MAX),
        ("device minor", minor, MINOR_MAX),
    ] {
        if value > limit {
            return Err(Problem::TooLarge { what, value, limit });
        }
    }
    Ok(
        u32::try_from(minor & 0xff | major << 8 | (minor & !0xff) << 12)
            .expect("32 bits by the checks above"),
    )
}
