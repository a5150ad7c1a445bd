//! The blob table, the device table and the prefetch table.

use std::collections::HashSet;

use zerocopy::little_endian::U32;

use super::bytes::{Bytes, ensure};
use super::superblock::{OnFault, Tables, is_chunk_size};
use super::{Blob, Error, MetaBlob, Nid, View};
use crate::blob::{MetaPlace, TocPlace};
use crate::chunk::{Compressor, Digester};
use crate::layout::{self, BLOBS_MAX, BLOCK, BlobEntry, DeviceSlot};

/// The chunk size that the first blob with a legal one has.
pub(super) fn chunk_size(bytes: Bytes<'_>, tables: &Tables) -> Option<u32> {
    let sizes = entries(bytes, tables)
        .ok()?
        .iter()
        .map(|entry| entry.chunk_size.get());
    sizes.into_iter().find(|&size| is_chunk_size(size))
}

fn entries<'a>(bytes: Bytes<'a>, tables: &Tables) -> Result<&'a [BlobEntry], Error> {
    let table = &tables.blobs;
    bytes.read_all(table.start, table.end - table.start, "the blob table")
}

/// Reads the blob table and compares it with the device table.
pub(super) fn blobs(
    bytes: Bytes<'_>,
    tables: &Tables,
    chunk_size: u32,
    on_fault: &mut OnFault<'_>,
) -> Result<Vec<Blob>, Error> {
    let entries = entries(bytes, tables)?;
    let table = &tables.devices;
    let devices: &[DeviceSlot] = bytes.read_all(table.start, table.end - table.start, "the device table")?;
    ensure(
        entries.len() <= BLOBS_MAX,
        "there are more than 254 blobs",
        tables.blobs.start,
    )
    .or_else(&mut *on_fault)?;
    let mut blobs = Vec::with_capacity(entries.len().min(BLOBS_MAX));
    let mut ids = HashSet::with_capacity(entries.len());
    for (index, entry) in (0_u32..).zip(entries).take(BLOBS_MAX) {
        let offset = tables.blobs.start + u64::from(index) * size_of::<BlobEntry>() as u64;
        ensure(
            devices
                .get(index as usize)
                .is_none_or(|device| device.tag == entry.id),
            "device and blob table name different blobs",
            offset,
        )
        .or_else(&mut *on_fault)?;
        ensure(ids.insert(entry.id), "two blobs have one id", offset).or_else(&mut *on_fault)?;
        let number = [
            (entry.index.get() == index, "a blob's number is not its position"),
            (
                entry.chunk_size.get() == chunk_size,
                "a blob has another chunk size than the image",
            ),
        ];
        for (holds, what) in number {
            ensure(holds, what, offset).or_else(&mut *on_fault)?;
        }
        blobs.push(blob(entry, offset, on_fault)?);
    }
    Ok(blobs)
}

fn blob(entry: &BlobEntry, offset: u64, on_fault: &mut OnFault<'_>) -> Result<Blob, Error> {
    let features = entry.features.get();
    check_features(features, entry.cipher.get(), offset, on_fault)?;
    let id = id(entry, offset, on_fault)?;
    let (compressed_size, uncompressed_size) = (entry.compressed_size.get(), entry.uncompressed_size.get());
    let limits = [
        (
            entry.chunk_count.get() <= layout::CHUNKS_MAX,
            "a blob has more than 2^24 - 1 chunks",
        ),
        (
            compressed_size <= layout::COMPRESSED_MAX && uncompressed_size <= layout::UNCOMPRESSED_MAX,
            "a blob is larger than 1 TiB, or 16 TiB uncompressed",
        ),
        (
            uncompressed_size.is_multiple_of(BLOCK),
            "a blob's uncompressed size is not a multiple of 4096",
        ),
    ];
    for (holds, what) in limits {
        ensure(holds, what, offset).or_else(&mut *on_fault)?;
    }
    let compressor = compressor(entry.compressor.get(), offset, on_fault)?;
    let digester = match Digester::from_disk(entry.digester.get()) {
        Some(digester) => digester,
        None => {
            let what = "unknown digest function";
            on_fault(Error::Corrupt { what, offset })?;
            Digester::Sha256
        }
    };
    Ok(Blob {
        id,
        // Chunk numbers have 24 bits wherever they stand.
        chunk_count: entry.chunk_count.get().min(layout::CHUNKS_MAX),
        compressed_size,
        uncompressed_size,
        compressor,
        digester,
        features,
        meta: meta_place(entry, offset, on_fault)?,
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

/// The blob's id. Ids become parts of paths and addresses, so nothing but hex digits passes.
fn id(entry: &BlobEntry, offset: u64, on_fault: &mut OnFault<'_>) -> Result<String, Error> {
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if entry.id == layout::LAYER_ID {
        let feature = "bootstrap of a single layer, which does not know its blob's id";
        on_fault(Error::Unsupported { feature, offset })?;
    } else if !entry.id.iter().all(is_hex) {
        let what = "a blob's id is not 64 lower-case hex digits";
        on_fault(Error::Corrupt { what, offset })?;
    }
    Ok(entry.id.escape_ascii().to_string())
}

fn compressor(number: u32, offset: u64, on_fault: &mut OnFault<'_>) -> Result<Compressor, Error> {
    match Compressor::from_disk(number) {
        Some(compressor) => Ok(compressor),
        None => {
            let what = "unknown compressor";
            on_fault(Error::Corrupt { what, offset })?;
            Ok(Compressor::None)
        }
    }
}

fn meta_place(entry: &BlobEntry, offset: u64, on_fault: &mut OnFault<'_>) -> Result<MetaPlace, Error> {
    let place = MetaPlace {
        compressor: compressor(entry.meta_compressor.get(), offset, on_fault)?,
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
    )
    .or_else(&mut *on_fault)?;
    Ok(place)
}

fn check_features(features: u32, cipher: u32, offset: u64, on_fault: &mut OnFault<'_>) -> Result<(), Error> {
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
            on_fault(Error::Unsupported { feature, offset })?;
        }
    }
    Ok(())
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
