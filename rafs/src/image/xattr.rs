//! Extended attributes, as they follow an inode.

use zerocopy::FromBytes;

use super::bytes::ensure;
use super::inode::Inode;
use super::{Error, View};
use crate::layout::{XattrEntry, XattrHeader};
use crate::xattr;

/// Reads the attributes of an inode; ends after the first error.
#[derive(Clone, Debug)]
pub struct Xattrs<'a> {
    entries: Raw<'a>,
}

impl<'a> Iterator for Xattrs<'a> {
    type Item = Result<(Vec<u8>, &'a [u8]), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.entries.advance().transpose()?;
        Some(step.map(|entry| ([entry.prefix, entry.suffix].concat(), entry.value)))
    }
}

/// One attribute, its name in two pieces.
struct Attribute<'a> {
    prefix: &'static [u8],
    suffix: &'a [u8],
    value: &'a [u8],
}

/// Entries not read yet.
#[derive(Clone, Debug)]
struct Raw<'a> {
    rest: &'a [u8],
    offset: u64,
}

impl<'a> Raw<'a> {
    fn advance(&mut self) -> Result<Option<Attribute<'a>>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (rest, offset) = (std::mem::take(&mut self.rest), self.offset);
        let corrupt = |what| Error::Corrupt { what, offset };
        let outside = || corrupt("an attribute lies outside its inode's room");
        let (entry, body) = XattrEntry::ref_from_prefix(rest).map_err(|_| outside())?;
        let (name_len, value_len) = (usize::from(entry.name_len), usize::from(entry.value_len.get()));
        let (suffix, body) = body.split_at_checked(name_len).ok_or_else(outside)?;
        let value = body.get(..value_len).ok_or_else(outside)?;
        let prefix = xattr::prefix(entry.prefix)
            .ok_or_else(|| corrupt("an attribute's name has an unknown prefix"))?;
        ensure(
            suffix.is_empty() != prefix.ends_with(b".") && !suffix.contains(&0),
            "an attribute's name is incomplete or holds a NUL",
            offset,
        )?;
        let len = (size_of::<XattrEntry>() + name_len + value_len).next_multiple_of(4);
        self.rest = rest.get(len..).ok_or_else(outside)?;
        self.offset += len as u64;
        Ok(Some(Attribute {
            prefix,
            suffix,
            value,
        }))
    }
}

impl<'a> View<'a> {
    /// Reads the attributes of an inode.
    pub(super) fn xattrs(self, inode: &Inode) -> Result<Xattrs<'a>, Error> {
        let entries = self.raw_xattrs(inode)?;
        Ok(Xattrs { entries })
    }

    /// Value of the attribute with a full name.
    pub(super) fn xattr(self, inode: &Inode, name: &[u8]) -> Result<Option<&'a [u8]>, Error> {
        let mut entries = self.raw_xattrs(inode)?;
        while let Some(entry) = entries.advance()? {
            if name.strip_prefix(entry.prefix) == Some(entry.suffix) {
                return Ok(Some(entry.value));
            }
        }
        Ok(None)
    }

    fn raw_xattrs(self, inode: &Inode) -> Result<Raw<'a>, Error> {
        let range = inode.xattr_range();
        let what = "attributes lie outside the file";
        let room = self.bytes.get(range.start, range.end - range.start, what)?;
        if room.is_empty() {
            return Ok(Raw {
                rest: room,
                offset: range.start,
            });
        }
        let (header, rest) = XattrHeader::ref_from_prefix(room).map_err(|_| Error::Corrupt {
            what,
            offset: range.start,
        })?;
        if header.shared_count != 0 {
            return Err(Error::Unsupported {
                feature: "shared extended attributes",
                offset: range.start,
            });
        }
        Ok(Raw {
            rest,
            offset: range.start + size_of::<XattrHeader>() as u64,
        })
    }
}
