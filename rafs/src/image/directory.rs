//! Directories: entries by name and in order.

use zerocopy::FromBytes;

use super::bytes::ensure;
use super::inode::{Data, Inode};
use super::{Error, Nid, View};
use crate::layout::{BLOCK, BLOCK_BITS, Dirent, NAME_MAX};
use crate::tree::FileType;

/// Bytes of an entry without its name.
const DIRENT_LEN: usize = size_of::<Dirent>();

/// One name of a directory.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Name bytes, without `/` and NUL.
    pub name: &'a [u8],
    /// Inode.
    pub nid: Nid,
    /// Kind, as the directory says it.
    pub file_type: FileType,
    /// Cookie of the entry after this one, for [`Image::entries_from`](super::Image::entries_from).
    pub next: u64,
}

/// One block of a directory.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    bytes: &'a [u8],
    /// Byte offset in the file, for errors.
    offset: u64,
    /// Number of the block in the directory.
    number: u64,
    /// Entries in the block; at least one.
    pub(super) count: usize,
}

impl<'a> Block<'a> {
    /// Byte offset of an entry in the file.
    pub(super) fn entry_offset(self, at: usize) -> u64 {
        self.offset + (at * DIRENT_LEN) as u64
    }

    /// Reads an entry.
    pub(super) fn entry(self, at: usize) -> Result<Entry<'a>, Error> {
        let offset = self.entry_offset(at);
        let corrupt = |what| Error::Corrupt { what, offset };
        let dirent = self
            .dirent(at)
            .ok_or_else(|| corrupt("an entry lies outside its block"))?;
        let start = usize::from(dirent.name_offset.get());
        let name = if at + 1 < self.count {
            let next = self
                .dirent(at + 1)
                .map(|next| usize::from(next.name_offset.get()));
            next.and_then(|end| self.bytes.get(start..end))
        } else {
            // Zeros fill the block behind the last name.
            let rest = self.bytes.get(start..);
            rest.and_then(|rest| rest.split(|&byte| byte == 0).next())
        };
        let name = name.ok_or_else(|| corrupt("a name lies outside its block"))?;
        ensure(
            start >= self.count * DIRENT_LEN && (1..=NAME_MAX).contains(&name.len()),
            "a name is empty, too long, or lies among the entries",
            offset,
        )?;
        ensure(
            !name.iter().any(|&byte| byte == b'/' || byte == 0),
            "a name holds a slash or a NUL",
            offset,
        )?;
        let file_type = FileType::from_disk(dirent.file_type);
        Ok(Entry {
            name,
            nid: Nid(dirent.nid.get()),
            file_type: file_type.ok_or_else(|| corrupt("an entry names no kind of file"))?,
            next: if at + 1 < self.count {
                cookie(self.number, at + 1)
            } else {
                cookie(self.number + 1, 0)
            },
        })
    }

    fn dirent(self, at: usize) -> Option<&'a Dirent> {
        let bytes = self.bytes.get(at * DIRENT_LEN..)?;
        Dirent::ref_from_prefix(bytes).ok().map(|(dirent, _)| dirent)
    }
}

/// A cookie is a block's number and an entry's place in it: a block has fewer than 4096 entries.
fn cookie(block: u64, at: usize) -> u64 {
    block << BLOCK_BITS | at as u64
}

/// Reads entries of a directory in order; ends after the first error.
#[derive(Clone)]
pub struct Entries<'a> {
    view: View<'a>,
    inode: Inode,
    block: Option<Block<'a>>,
    next_block: u64,
    at: usize,
    previous: &'a [u8],
}

impl std::fmt::Debug for Entries<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entries")
            .field("nid", &self.inode.nid)
            .field("next_block", &self.next_block)
            .finish_non_exhaustive()
    }
}

impl<'a> Entries<'a> {
    fn advance(&mut self) -> Result<Option<Entry<'a>>, Error> {
        loop {
            match self.block {
                Some(block) if self.at < block.count => {
                    let entry = block.entry(self.at)?;
                    ensure(
                        self.previous < entry.name,
                        "names are not in order",
                        block.entry_offset(self.at),
                    )?;
                    self.previous = entry.name;
                    self.at += 1;
                    return Ok(Some(entry));
                }
                Some(_) => self.at = 0,
                None => {}
            }
            self.block = self.view.block(&self.inode, self.next_block)?;
            if self.block.is_none() {
                return Ok(None);
            }
            self.next_block += 1;
        }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.advance();
        if !matches!(step, Ok(Some(_))) {
            self.block = None;
            self.next_block = u64::MAX;
        }
        step.transpose()
    }
}

impl<'a> View<'a> {
    /// Reads a directory from `cookie` on.
    pub(super) fn entries_from(self, dir: &Inode, cookie: u64) -> Result<Entries<'a>, Error> {
        block_count(dir)?;
        Ok(Entries {
            view: self,
            inode: *dir,
            block: None,
            next_block: cookie >> BLOCK_BITS,
            at: (cookie & (BLOCK - 1)) as usize,
            previous: b"",
        })
    }

    /// Finds a name: first its block by the blocks' first names, then the entry.
    pub(super) fn lookup(self, dir: &Inode, name: &[u8]) -> Result<Option<Entry<'a>>, Error> {
        let (mut low, mut high) = (0, block_count(dir)?);
        let mut found = None;
        while low < high {
            let middle = low + (high - low) / 2;
            let Some(block) = self.block(dir, middle)? else {
                break;
            };
            if block.entry(0)?.name <= name {
                found = Some(block);
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let Some(block) = found else { return Ok(None) };
        let (mut low, mut high) = (0, block.count);
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = block.entry(middle)?;
            match entry.name.cmp(name) {
                std::cmp::Ordering::Equal => return Ok(Some(entry)),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    }

    /// Block `number` of a directory; `None` behind the last.
    pub(super) fn block(self, dir: &Inode, number: u64) -> Result<Option<Block<'a>>, Error> {
        let Data::Bytes { blocks, whole, tail } = dir.data else {
            return Ok(None);
        };
        if number >= dir.size.div_ceil(BLOCK) {
            return Ok(None);
        }
        let start = number * BLOCK;
        let len = BLOCK.min(dir.size - start);
        let offset = if start < whole { blocks + start } else { tail };
        let bytes = (self.bytes).get(offset, len, "a directory's block lies outside the file")?;
        let what = "a directory's block has no entries";
        let (first, _) = Dirent::ref_from_prefix(bytes).map_err(|_| Error::Corrupt { what, offset })?;
        let names = usize::from(first.name_offset.get());
        ensure(
            names >= DIRENT_LEN && names % DIRENT_LEN == 0 && names <= bytes.len(),
            what,
            offset,
        )?;
        Ok(Some(Block {
            bytes,
            offset,
            number,
            count: names / DIRENT_LEN,
        }))
    }
}

fn block_count(dir: &Inode) -> Result<u64, Error> {
    ensure(
        dir.file_type == FileType::Directory,
        "an inode is no directory",
        dir.offset,
    )?;
    Ok(dir.size.div_ceil(BLOCK))
}
