//! One piece as text, from which its bytes could be written again.

use std::fmt::{self, Write};

use zerocopy::FromBytes;
use zerocopy::little_endian::U32;

use super::field::{Bits, Octal, Signed, fields};
use super::{Kind, Piece, field};
use crate::layout::{
    BlobEntry, ChunkEntry, ChunkIndex, CompactInode, DeviceSlot, Dirent, ExtendedInode, ExtendedSuperBlock,
    SuperBlock, XattrEntry, XattrHeader,
};

/// Before fields of structures that are too long for one line.
const INDENT: &str = "\n    ";

/// Shows a piece. Its range lies in the file.
pub(super) fn piece(bytes: &[u8], piece: &Piece<'_>, out: &mut impl Write) -> fmt::Result {
    let data = &bytes[piece.range.start as usize..piece.range.end as usize];
    write!(out, "{:#010x} ", piece.range.start)?;
    let path = |out: &mut dyn Write| match piece.path {
        Some(path) => write!(out, " # {path}"),
        None => Ok(()),
    };
    match piece.kind {
        Kind::SuperBlock => superblock(data, out),
        Kind::ExtendedSuperBlock => extended(data, out),
        Kind::Device => device(data, out),
        Kind::Blob => blob(data, out),
        Kind::Prefetch => numbers(data, out),
        Kind::Chunk => chunk(data, out),
        Kind::Inode => inode(data, out, piece.path.unwrap_or_default()),
        Kind::Xattrs => xattrs(data, out),
        Kind::ChunkIndexes => chunk_indexes(data, out),
        Kind::Directory(count) => {
            write!(out, "directory {count} entries")?;
            path(out)?;
            directory(data, count, out)
        }
        Kind::Symlink => writeln!(out, "target \"{}\"", data.escape_ascii()),
        Kind::Note(_) => Ok(()),
    }
}

/// The structure that `data` is. Pieces are exactly as long as their structures.
fn read<T: Copy + FromBytes>(data: &[u8]) -> Result<T, fmt::Error> {
    T::read_from_bytes(data).map_err(|_| fmt::Error)
}

fn superblock(data: &[u8], out: &mut impl Write) -> fmt::Result {
    let s: SuperBlock = read(data)?;
    write!(out, "superblock")?;
    fields!(
        out,
        INDENT,
        magic = Bits(s.magic.get().into()),
        checksum = s.checksum,
        feature_compat = Bits(s.feature_compat.get().into()),
        block_bits = s.block_bits,
        ext_slots = s.ext_slots,
        root_nid = s.root_nid,
        inode_count = s.inode_count,
        build_time = s.build_time,
        build_time_nanos = s.build_time_nanos,
        block_count = s.block_count,
        meta_block = s.meta_block,
        xattr_block = s.xattr_block,
        uuid = s.uuid,
        volume_name = s.volume_name,
        feature_incompat = Bits(s.feature_incompat.get().into()),
        union_word = s.union_word,
        extra_devices = s.extra_devices,
        device_table_slot = s.device_table_slot,
        reserved = s.reserved,
    )
}

fn extended(data: &[u8], out: &mut impl Write) -> fmt::Result {
    let s: ExtendedSuperBlock = read(data)?;
    write!(out, "rafs_superblock")?;
    fields!(
        out,
        INDENT,
        flags = Bits(s.flags.get()),
        blob_table_offset = s.blob_table_offset,
        blob_table_size = s.blob_table_size,
        chunk_size = s.chunk_size,
        chunk_table_offset = s.chunk_table_offset,
        chunk_table_size = s.chunk_table_size,
        prefetch_table_offset = s.prefetch_table_offset,
        prefetch_table_size = s.prefetch_table_size,
        padding = s.padding,
        reserved = s.reserved,
    )
}

fn device(data: &[u8], out: &mut impl Write) -> fmt::Result {
    let s: DeviceSlot = read(data)?;
    write!(out, "device")?;
    fields!(
        out,
        INDENT,
        tag = s.tag,
        blocks = s.blocks,
        mapped_block = s.mapped_block,
        reserved = s.reserved,
    )
}

fn blob(data: &[u8], out: &mut impl Write) -> fmt::Result {
    let s: BlobEntry = read(data)?;
    write!(out, "blob")?;
    fields!(
        out,
        INDENT,
        id = s.id,
        index = s.index,
        chunk_size = s.chunk_size,
        chunk_count = s.chunk_count,
        compressor = s.compressor,
        digester = s.digester,
        features = Bits(s.features.get().into()),
        compressed_size = s.compressed_size,
        uncompressed_size = s.uncompressed_size,
        toc_size = s.toc_size,
        meta_compressor = s.meta_compressor,
        meta_offset = s.meta_offset,
        meta_compressed_size = s.meta_compressed_size,
        meta_uncompressed_size = s.meta_uncompressed_size,
        toc_digest = s.toc_digest,
        meta_digest = s.meta_digest,
        meta_size = s.meta_size,
        cipher_iv = s.cipher_iv,
        cipher = s.cipher,
        reserved = s.reserved,
    )
}

fn numbers(data: &[u8], out: &mut impl Write) -> fmt::Result {
    let nids = <[U32]>::ref_from_bytes(data).map_err(|_| fmt::Error)?;
    write!(out, "prefetch")?;
    nids.iter().try_for_each(|nid| write!(out, " {nid}"))?;
    writeln!(out)
}

fn chunk(data: &[u8], out: &mut impl Write) -> fmt::Result {
    let s: ChunkEntry = read(data)?;
    write!(out, "chunk ")?;
    field::hex(&s.digest, out)?;
    fields!(
        out,
        ' ',
        blob = s.blob_index,
        index = s.index,
        flags = Bits(s.flags.get().into()),
        compressed_size = s.compressed_size,
        uncompressed_size = s.uncompressed_size,
        compressed_offset = s.compressed_offset,
        uncompressed_offset = s.uncompressed_offset,
        file_offset = s.file_offset,
        crc32 = Bits(s.crc32.get().into()),
    )
}

fn inode(data: &[u8], out: &mut impl Write, path: &str) -> fmt::Result {
    if data.len() == size_of::<CompactInode>() {
        let s: CompactInode = read(data)?;
        write!(out, "compact_inode {path}")?;
        return fields!(
            out,
            INDENT,
            format = s.format,
            xattr_count = s.xattr_count,
            mode = Octal(s.mode.get()),
            nlink = s.nlink,
            size = s.size,
            reserved = s.reserved,
            union_word = s.union_word,
            ino = s.ino,
            uid = s.uid,
            gid = s.gid,
            reserved_tail = s.reserved_tail,
        );
    }
    let s: ExtendedInode = read(data)?;
    write!(out, "inode {path}\n    ")?;
    fields!(
        out,
        ' ',
        format = s.format,
        xattr_count = s.xattr_count,
        mode = Octal(s.mode.get()),
        reserved = s.reserved,
        size = s.size,
        union_word = s.union_word,
        ino = s.ino,
        uid = s.uid,
        gid = s.gid,
        mtime = Signed(s.mtime.get()),
        mtime_nanos = s.mtime_nanos,
        nlink = s.nlink,
        reserved_tail = s.reserved_tail,
    )
}

/// Header and entries; what follows the last whole entry, in hex.
fn xattrs(data: &[u8], out: &mut impl Write) -> fmt::Result {
    let (s, mut rest) = XattrHeader::ref_from_prefix(data).map_err(|_| fmt::Error)?;
    write!(out, "xattrs")?;
    fields!(
        out,
        ' ',
        reserved = s.reserved,
        shared_count = s.shared_count,
        padding = s.padding
    )?;
    while let Some((entry, name, value, padding, next)) = xattr(rest) {
        write!(out, "    prefix={} \"{}\" = ", entry.prefix, name.escape_ascii())?;
        write!(out, "\"{}\" padding ", value.escape_ascii())?;
        field::hex(padding, out)?;
        writeln!(out)?;
        rest = next;
    }
    if rest.is_empty() {
        return Ok(());
    }
    write!(out, "    bytes ")?;
    field::hex(rest, out)?;
    writeln!(out)
}

type Xattr<'a> = (&'a XattrEntry, &'a [u8], &'a [u8], &'a [u8], &'a [u8]);

/// One entry in its parts, and what follows it.
fn xattr(data: &[u8]) -> Option<Xattr<'_>> {
    let (entry, body) = XattrEntry::ref_from_prefix(data).ok()?;
    let (name, body) = body.split_at_checked(entry.name_len.into())?;
    let (value, body) = body.split_at_checked(entry.value_len.get().into())?;
    let used = data.len() - body.len();
    let (padding, next) = body.split_at_checked(used.next_multiple_of(4) - used)?;
    Some((entry, name, value, padding, next))
}

fn chunk_indexes(data: &[u8], out: &mut impl Write) -> fmt::Result {
    let indexes = <[ChunkIndex]>::ref_from_bytes(data).map_err(|_| fmt::Error)?;
    writeln!(out, "chunk_indexes {}", indexes.len())?;
    for s in indexes {
        write!(out, "   ")?;
        fields!(
            out,
            ' ',
            device = s.device,
            index_high = s.index_high,
            index_low = s.index_low,
            block = s.block,
        )?;
    }
    Ok(())
}

/// Entries with their names. The names lie one behind the other, as the reader has found.
fn directory(data: &[u8], count: usize, out: &mut impl Write) -> fmt::Result {
    let (entries, _) = <[Dirent]>::ref_from_prefix_with_elems(data, count).map_err(|_| fmt::Error)?;
    writeln!(out)?;
    for (at, s) in entries.iter().enumerate() {
        let start = usize::from(s.name_offset.get());
        let end = entries
            .get(at + 1)
            .map_or(data.len(), |next| next.name_offset.get().into());
        let name = data.get(start..end).ok_or(fmt::Error)?;
        write!(out, "    \"{}\"", name.escape_ascii())?;
        fields!(
            out,
            ' ',
            nid = s.nid,
            name_offset = s.name_offset,
            file_type = s.file_type,
            reserved = s.reserved,
        )?;
    }
    Ok(())
}
