//! The tar headers in a blob file, and the header of its chunk infos.

use zerocopy::FromBytes;

use super::Faults;
use crate::blob::tar_header;
use crate::image::Blob;
use crate::layout::{self, BATCH_CONTEXT_LEN, MetaHeader};

/// Looks at the tar header of a section.
pub(super) fn tar(bytes: &[u8], name: &str, size: u64, offset: u64, faults: &mut Faults) {
    let read = bytes
        .first_chunk::<{ tar_header::LEN }>()
        .and_then(|header| tar_header::read(header, name));
    match read {
        Some(said) if said == size => {}
        Some(said) => faults.push(
            offset,
            format!("the tar header of {name} says {said} bytes, there are {size}"),
        ),
        None => faults.push(offset, format!("there is no sound tar header of {name}")),
    }
}

/// Byte offset of a field in the header.
macro_rules! at {
    ($field:ident) => {
        std::mem::offset_of!(MetaHeader, $field) as u64
    };
}

/// Holds the header of the chunk infos against the blob table.
pub(super) fn infos(bytes: &[u8], blob: &Blob, offset: u64, faults: &mut Faults) {
    let Ok(header) = MetaHeader::ref_from_bytes(bytes) else {
        return faults.push(offset, "the header of the chunk infos is cut off");
    };
    let place = &blob.meta;
    let features = header.features.get() ^ blob.features;
    let fields = [
        (
            header.magic.get() == MetaHeader::MAGIC,
            at!(magic),
            "magic number",
        ),
        (
            // Whether the file has a bootstrap of its own is not the image's concern.
            features & !layout::BLOB_INLINED_META == 0,
            at!(features),
            "features",
        ),
        (
            header.compressor.get() == place.compressor.to_disk(),
            at!(compressor),
            "compressor",
        ),
        (
            header.chunk_count.get() == blob.chunk_count,
            at!(chunk_count),
            "number of chunks",
        ),
        (header.offset.get() == place.offset, at!(offset), "offset"),
        (
            header.compressed_size.get() == place.compressed_size,
            at!(compressed_size),
            "size",
        ),
        (
            header.uncompressed_size.get() == place.uncompressed_size,
            at!(uncompressed_size),
            "uncompressed size",
        ),
        (
            header.magic_tail.get() == MetaHeader::MAGIC,
            at!(magic_tail),
            "magic number",
        ),
    ];
    for (holds, at, what) in fields {
        if !holds {
            faults.push(
                offset + at,
                format!("the header of the chunk infos has another {what} than the blob table"),
            );
        }
    }
    contexts(header, blob, offset, faults);
    if let Some(at) = header.reserved.iter().position(|&byte| byte != 0) {
        faults.push(
            offset + at!(reserved) + at as u64,
            "reserved bytes in the header of the chunk infos are not zero",
        );
    }
}

/// Contexts reach from the last chunk info to the end.
fn contexts(header: &MetaHeader, blob: &Blob, offset: u64, faults: &mut Faults) {
    let (start, size) = (header.context_offset.get(), header.context_size.get());
    let count = u64::from(header.context_count.get());
    let holds = match blob.has_shared_units() {
        true => {
            start.checked_add(size) == Some(blob.meta.uncompressed_size)
                && start == u64::from(blob.chunk_count) * layout::CHUNK_INFO_V2_LEN
                && count * BATCH_CONTEXT_LEN <= size
        }
        false => (start, size, count) == (0, 0, 0),
    };
    if !holds {
        faults.push(
            offset + at!(context_offset),
            "the contexts in the header of the chunk infos do not fill the room behind them",
        );
    }
}

/// Contexts of both kinds are equally long.
const _: () = assert!(BATCH_CONTEXT_LEN == layout::ZRAN_CONTEXT_LEN);
