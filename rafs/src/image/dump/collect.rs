//! Finding what lies where: tables, and everything that the root reaches.

use std::collections::HashSet;
use std::ops::Range;

use super::{Kind, Piece};
use crate::image::check::claims::Claims;
use crate::image::inode::{Data, Inode};
use crate::image::{Error, Image, Nid, View};
use crate::layout::{
    BLOCK, BlobEntry, ChunkEntry, ChunkIndex, DEVICE_TABLE_OFFSET, DeviceSlot, EXTENDED_SUPERBLOCK_OFFSET,
    SUPERBLOCK_OFFSET,
};
use crate::tree::FileType;

/// Bytes of a path that is shown: hostile directories nest without end.
const PATH_MAX: usize = 4096;

/// Pieces found so far.
#[derive(Default)]
pub(super) struct Collector {
    found: Vec<Found>,
    /// Paths and notes.
    texts: Vec<String>,
}

/// A piece whose text is kept by position.
struct Found {
    range: Range<u64>,
    kind: Kind<'static>,
    text: Option<usize>,
    is_note: bool,
}

impl Collector {
    /// Everything of an image.
    pub(super) fn of<B: AsRef<[u8]>>(image: &Image<B>) -> Self {
        let view = image.view();
        let mut collector = Collector::unopened(image.bytes());
        let tables = &view.shape.tables;
        collector.table(&tables.devices, size_of::<DeviceSlot>() as u64, Kind::Device);
        collector.table(&tables.blobs, size_of::<BlobEntry>() as u64, Kind::Blob);
        let prefetch_len = tables.prefetch.end - tables.prefetch.start;
        collector.table(&tables.prefetch, prefetch_len, Kind::Prefetch);
        collector.table(&tables.chunks, size_of::<ChunkEntry>() as u64, Kind::Chunk);
        let mut claims = Claims::new(view.bytes.len());
        claims.claim(0..DEVICE_TABLE_OFFSET);
        for table in [&tables.devices, &tables.blobs, &tables.prefetch, &tables.chunks] {
            claims.claim(table.clone());
        }
        let walk = Walk {
            view,
            collector,
            claims,
            seen: HashSet::new(),
        };
        walk.run()
    }

    /// What has a fixed place.
    pub(super) fn unopened(bytes: &[u8]) -> Self {
        let mut collector = Collector::default();
        if bytes.len() as u64 >= DEVICE_TABLE_OFFSET {
            collector.add(SUPERBLOCK_OFFSET..EXTENDED_SUPERBLOCK_OFFSET, Kind::SuperBlock);
            collector.add(
                EXTENDED_SUPERBLOCK_OFFSET..DEVICE_TABLE_OFFSET,
                Kind::ExtendedSuperBlock,
            );
        }
        collector
    }

    /// The pieces in the order of their bytes.
    pub(super) fn pieces(&self) -> Vec<Piece<'_>> {
        let mut pieces: Vec<Piece<'_>> = (self.found.iter())
            .map(|found| {
                let text = found.text.map(|at| self.texts[at].as_str());
                Piece {
                    range: found.range.clone(),
                    kind: match found.is_note {
                        true => Kind::Note(text.unwrap_or_default()),
                        false => found.kind,
                    },
                    path: text,
                }
            })
            .collect();
        // Notes cover nothing and so come before what starts where they stand.
        pieces.sort_by_key(|piece| (piece.range.start, piece.range.end));
        pieces
    }

    fn add(&mut self, range: Range<u64>, kind: Kind<'static>) {
        if !range.is_empty() {
            self.found.push(Found {
                range,
                kind,
                text: None,
                is_note: false,
            });
        }
    }

    fn table(&mut self, table: &Range<u64>, unit: u64, kind: Kind<'static>) {
        let mut start = table.start;
        while unit > 0 && start < table.end {
            self.add(start..table.end.min(start + unit), kind);
            start += unit;
        }
    }

    fn note(&mut self, error: Error) {
        let (offset, what) = match error {
            Error::Foreign { what } => (0, what.to_owned()),
            Error::Unsupported { feature, offset } => (offset, format!("unsupported: {feature}")),
            Error::Corrupt { what, offset } => (offset, what.to_owned()),
        };
        self.texts.push(what);
        self.found.push(Found {
            range: offset..offset,
            kind: Kind::Inode,
            text: Some(self.texts.len() - 1),
            is_note: true,
        });
    }
}

/// Going through the tree. As in the checker, bytes that two inodes claim are followed for the first only, so that
/// the work is bounded by the length of the file.
struct Walk<'a> {
    view: View<'a>,
    collector: Collector,
    claims: Claims,
    seen: HashSet<Nid>,
}

impl Walk<'_> {
    fn run(mut self) -> Collector {
        let mut ahead = vec![(self.view.shape.root, "/".to_owned())];
        while let Some((nid, path)) = ahead.pop() {
            if !self.seen.insert(nid) {
                continue;
            }
            if let Err(error) = self.inode(nid, path, &mut ahead) {
                self.collector.note(error);
            }
        }
        self.collector
    }

    fn inode(&mut self, nid: Nid, path: String, ahead: &mut Vec<(Nid, String)>) -> Result<(), Error> {
        let inode = self.view.inode(nid)?;
        if inode
            .ranges()
            .map(|range| self.claims.claim(range))
            .contains(&false)
        {
            let what = "an inode overlaps something else";
            return Err(Error::Corrupt {
                what,
                offset: inode.offset,
            });
        }
        let xattrs = inode.xattr_range();
        self.collector.add(inode.offset..xattrs.start, Kind::Inode);
        self.collector.texts.push(path);
        let text = self.collector.texts.len() - 1;
        if let Some(last) = self.collector.found.last_mut() {
            last.text = Some(text);
        }
        self.collector.add(xattrs, Kind::Xattrs);
        match (inode.file_type, inode.data) {
            (FileType::Directory, _) => self.directory(&inode, text, ahead),
            (FileType::Symlink, Data::Bytes { blocks, whole, tail }) => {
                let start = if whole == 0 { tail } else { blocks };
                self.collector.add(start..start + inode.size, Kind::Symlink);
                Ok(())
            }
            (_, Data::Chunks { start, count, .. }) => {
                let end = start + count * size_of::<ChunkIndex>() as u64;
                self.collector.add(start..end, Kind::ChunkIndexes);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn directory(&mut self, dir: &Inode, text: usize, ahead: &mut Vec<(Nid, String)>) -> Result<(), Error> {
        let first = ahead.len();
        for number in 0..dir.size.div_ceil(BLOCK) {
            let Some(block) = self.view.block(dir, number)? else {
                break;
            };
            let mut end = block.entry_offset(block.count);
            for at in 0..block.count {
                let entry = block.entry(at)?;
                end += entry.name.len() as u64;
                if !matches!(entry.name, b"." | b"..") && !self.seen.contains(&entry.nid) {
                    let parent = self.collector.texts[text].trim_end_matches('/');
                    let path = match parent.len() < PATH_MAX {
                        true => format!("{parent}/{}", entry.name.escape_ascii()),
                        false => format!(".../{}", entry.name.escape_ascii()),
                    };
                    ahead.push((entry.nid, path));
                }
            }
            let kind = Kind::Directory(block.count);
            self.collector.add(block.entry_offset(0)..end, kind);
            if let Some(last) = self.collector.found.last_mut() {
                last.text = Some(text);
            }
        }
        ahead[first..].reverse();
        Ok(())
    }
}
