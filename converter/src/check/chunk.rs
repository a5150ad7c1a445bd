//! Verifying every chunk that the image lists.

use std::sync::Arc;

use futures::StreamExt;
use rafs::BlobIndex;
use rafs::blob::BLOB_FAULTS_MAX;
use rafs::chunk::crc32c;

use super::Findings;
use crate::error::Error;
use crate::fetch;
use crate::opened::RafsImage;

/// Reads every chunk of a blob in the order it lies there. `len`: bytes of the file; what lies behind them is told already.
pub(super) async fn verify(
    image: &Arc<RafsImage>,
    blob: BlobIndex,
    len: u64,
    findings: &mut Findings,
) -> Result<(), Error> {
    let units = match image.units(blob).await {
        Ok(units) => units,
        // Without its chunk infos no chunk of the blob can be read; why they cannot be read is told.
        Err(Error::BlobMeta { .. } | Error::Image(proto::image::Error::LengthMismatch { .. })) => {
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let mut wanted: Vec<_> = image.bootstrap.chunks(blob).filter_map(Result::ok).collect();
    wanted.retain(|chunk| {
        units.piece(chunk).map_or(true, |piece| {
            let stored = piece.unit.stored;
            stored.offset.saturating_add(u64::from(stored.len)) <= len
        })
    });
    // Numbers follow the order in which chunks lie in the blob; those that share a unit stand together.
    wanted.sort_by_key(|chunk| chunk.index);
    let id = &image.bootstrap.blobs()[usize::from(blob.0)].id;
    let mut fault_count = 0;
    let mut chunks = std::pin::pin!(fetch::fetch(Arc::clone(image), wanted));
    while let Some(decoded) = chunks.next().await {
        let (chunk, content) = decoded?;
        let sum = image.bootstrap.checksum(blob, chunk.index).ok().flatten();
        let fault = match content {
            Err(fault) => fault.to_string(),
            Ok(content) if sum.is_some_and(|sum| sum != crc32c(&content)) => {
                "its content has another checksum than the chunk table says".to_owned()
            }
            Ok(_) => {
                findings.chunk_count += 1;
                continue;
            }
        };
        fault_count += 1;
        if fault_count > BLOB_FAULTS_MAX {
            continue;
        }
        let piece = units.piece(&chunk);
        let offset = piece.map_or(chunk.compressed.offset, |piece| piece.unit.stored.offset);
        findings.faults.push(format!(
            "blob {id}: byte {offset}: chunk {}: {fault}",
            chunk.index
        ));
    }
    if fault_count > BLOB_FAULTS_MAX {
        let more = fault_count - BLOB_FAULTS_MAX;
        findings
            .faults
            .push(format!("blob {id}: {more} more damaged chunks"));
    }
    Ok(())
}
