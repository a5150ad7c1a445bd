//! The blob table, the device table and the prefetch table.

use std::collections::HashSet;

use zerocopy::little_endian::U32;

use super::bytes::{Bytes, ensure};
use super::superblock::Tables;
use super::{Blob, Error, MetaBlob, Nid, View};
use crate::blob::{MetaPlace, TocPlace};
use crate::chunk::{Compressor, Digester};
use crate::layout::{self, BLOBS_MAX, BLOCK, BlobEntry, DeviceSlot};

/// Reads the blob table and compares it with the device table.
pub(super) fn blobs(bytes: Bytes<'_>, tables: &Tables, chunk_size: u32) -> Result<Vec<Blob>, Error> {
    let table = &tables.blobs;
    let entries: &[BlobEntry] = bytes.read_all(table.start, table.end - table.start, "the blob table")?;
    let table = &tables.devices;
    let devices: &[DeviceSlot] = bytes.read_all(table.start, table.end - table.start, "the device table")?;
    ensure(
        entries.len() <= BLOBS_MAX,
        "there are more than 254 blobs",
        tables.blobs.start,
    )?;
    let mut blobs = Vec::with_capacity(entries.len());
    let mut ids = HashSet::with_capacity(entries.len());
    for ((index, entry), device) in (0_u32..).zip(entries).zip(devices) {
        let offset = tables.blobs.start + u64::from(index) * size_of::<BlobEntry>() as u64;
        ensure(
            device.tag == entry.id,
            "device and blob table name different blobs",
            offset,
        )?;
        ensure(ids.insert(entry.id), "two blobs have one id", offset)?;
        blobs.push(blob(entry, index, chunk_size, offset)?);
    }
    Ok(blobs)
}

fn blob(entry: &BlobEntry, index: u32, chunk_size: u32, offset: u64) -> Result<Blob, Error> {
    let corrupt = |what| Error::Corrupt { what, offset };
    let features = entry.features.get();
    check_features(features, entry.cipher.get(), offset)?;
    ensure(
        entry.index.get() == index,
        "a blob's number is not its position",
        offset,
    )?;
    ensure(
        entry.chunk_size.get() == chunk_size,
        "a blob has another chunk size than the image",
        offset,
    )?;
    if entry.id == layout::LAYER_ID {
        return Err(Error::Unsupported {
            feature: "bootstrap of a single layer, which does not know its blob's id",
            offset,
        });
    }
    let id = hex_id(&entry.id).ok_or_else(|| corrupt("a blob's id is not 64 lower-case hex digits"))?;
    let chunk_count = entry.chunk_count.get();
    ensure(
        chunk_count <= layout::CHUNKS_MAX,
        "a blob has more than 2^24 - 1 chunks",
        offset,
    )?;
    let (compressed_size, uncompressed_size) = (entry.compressed_size.get(), entry.uncompressed_size.get());
    ensure(
        compressed_size <= layout::COMPRESSED_MAX && uncompressed_size <= layout::UNCOMPRESSED_MAX,
        "a blob is larger than 1 TiB, or 16 TiB uncompressed",
        offset,
    )?;
    ensure(
        uncompressed_size.is_multiple_of(BLOCK),
        "a blob's uncompressed size is not a multiple of 4096",
        offset,
    )?;
    let compressor = |number| Compressor::from_disk(number).ok_or_else(|| corrupt("unknown compressor"));
    Ok(Blob {
        id,
        chunk_count,
        compressed_size,
        uncompressed_size,
        compressor: compressor(entry.compressor.get())?,
        digester: Digester::from_disk(entry.digester.get())
            .ok_or_else(|| corrupt("unknown digest function"))?,
        features,
        meta: meta_place(entry, compressor(entry.meta_compressor.get())?, offset)?,
        meta_blob: (features & layout::BLOB_SEPARATE != 0).then(|| MetaBlob {
            id: crate::Digest(entry.meta_digest).to_string(),
            size: entry.meta_size.get(),
        }),
        toc: TocPlace {
            size: entry.toc_size.get(),
            digest: entry.toc_digest,
        },
    })
}

fn meta_place(entry: &BlobEntry, compressor: Compressor, offset: u64) -> Result<MetaPlace, Error> {
    let place = MetaPlace {
        compressor,
        offset: entry.meta_offset.get(),
        compressed_size: entry.meta_compressed_size.get(),
        uncompressed_size: entry.meta_uncompressed_size.get(),
    };
    let count = u64::from(entry.chunk_count.get());
    let features = entry.features.get();
    let has_contexts = features & (layout::BLOB_BATCH | layout::BLOB_ZRAN) != 0;
    let fits = if features & layout::BLOB_CHUNK_INFO_V2 == 0 {
        place.uncompressed_size == count * layout::CHUNK_INFO_V1_LEN
    } else if has_contexts {
        place.uncompressed_size >= count * layout::CHUNK_INFO_V2_LEN
    } else {
        place.uncompressed_size == count * layout::CHUNK_INFO_V2_LEN
    };
    ensure(
        fits && place.compressed_size <= place.uncompressed_size,
        "the chunk infos' size does not fit the number of chunks",
        offset,
    )?;
    Ok(place)
}

fn check_features(features: u32, cipher: u32, offset: u64) -> Result<(), Error> {
    const KNOWN: u32 = layout::BLOB_ALIGNED
        | layout::BLOB_INLINED_META
        | layout::BLOB_CHUNK_INFO_V2
        | layout::BLOB_ZRAN
        | layout::BLOB_SEPARATE
        | layout::BLOB_INLINED_CHUNK_DIGEST
        | layout::BLOB_BATCH
        | layout::BLOB_CHUNKDICT
        | layout::BLOB_PREFETCH_FILES;
    let unsupported = [
        (features & layout::BLOB_TARFS != 0, "tarfs"),
        (
            features & layout::BLOB_ENCRYPTED != 0 || cipher != 0,
            "encryption",
        ),
        (features & layout::BLOB_EXTERNAL != 0, "external blobs"),
        (features & layout::BLOB_ALIGNED == 0, "blobs of unaligned chunks"),
        (
            features & (layout::BLOB_INCOMPATIBLE & !KNOWN | layout::BLOB_INTERNAL) != 0,
            "blob feature of a later version",
        ),
    ];
    for (is_present, feature) in unsupported {
        if is_present {
            return Err(Error::Unsupported { feature, offset });
        }
    }
    Ok(())
}

/// The id as text. Ids become parts of paths and addresses, so nothing but hex digits passes.
fn hex_id(id: &[u8; 64]) -> Option<String> {
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    id.iter()
        .all(is_hex)
        .then(|| id.iter().copied().map(char::from).collect())
}

impl<'a> View<'a> {
    /// The prefetch table; 0 ends it.
    pub(super) fn prefetch(self) -> impl Iterator<Item = Nid> + 'a {
        let table = &self.shape.tables.prefetch;
        let nids: &[U32] = (self.bytes)
            .read_all(table.start, table.end - table.start, "")
            .unwrap_or_default();
        let nids = nids.iter().map(|nid| u64::from(nid.get()));
        nids.take_while(|&nid| nid != 0).map(Nid)
    }
}
