//! Reading a blob file whole: its digest, and all that is in it beside chunks.

use std::io::BufRead;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use proto::image::ImageSource;
use rafs::BlobIndex;
use rafs::blob::{BlobCheck, BlobFault, Subject, TOC_TAIL_MAX, Units};
use sha2::{Digest as _, Sha256};

use super::blob::BlobFile;
use crate::error::Error;
use crate::opened::RafsImage;
use crate::pipe::{PipeReader, pipe, pump};
use crate::task;

/// What the chunk infos of a blob say; `None`, and a fault, if they cannot be read.
pub(super) async fn infos(
    image: &RafsImage,
    blob: BlobIndex,
    faults: &mut Vec<String>,
) -> Result<Option<Arc<Units>>, Error> {
    let table = &image.bootstrap.blobs()[usize::from(blob.0)];
    let read = match table.has_shared_units() {
        true => image.units(blob).await,
        false => image.infos(blob).await.map(Arc::new),
    };
    let (id, range) = table.meta_range();
    match read {
        Ok(infos) => Ok(Some(infos)),
        Err(Error::BlobMeta { source, .. }) => {
            faults.push(format!("blob {id}: byte {}: {source}", range.start));
            Ok(None)
        }
        // That the file is too short is known.
        Err(Error::Image(proto::image::Error::LengthMismatch { .. })) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is checked of a file beside its digest.
pub(super) struct Parts {
    pub(super) image: Arc<RafsImage>,
    pub(super) blob: BlobIndex,
    /// The chunk infos, if they can be read.
    pub(super) infos: Option<Arc<Units>>,
}

impl Parts {
    fn subject(&self) -> Subject<'_, Bytes> {
        Subject {
            image: &self.image.bootstrap,
            blob: self.blob,
            infos: self.infos.as_deref(),
        }
    }
}

/// Reads all `len` bytes of a file and tells what is wrong with them.
pub(super) async fn read(
    source: &ImageSource,
    file: &BlobFile,
    parts: Option<Parts>,
    len: u64,
) -> Result<Vec<String>, Error> {
    if len == 0 {
        return Ok(vec![file.fault("it is empty")]);
    }
    let tail = match parts {
        Some(_) => bytes(source, file, len.saturating_sub(TOC_TAIL_MAX)..len).await?,
        None => Vec::new(),
    };
    let stream = source.range(&file.digest, 0..len).await?;
    let (pieces, pipe) = pipe();
    let reader = tokio::task::spawn_blocking(move || take_in(pipe, parts.as_ref(), len, &tail));
    let pumped = pump(stream, pieces).await;
    let read = task::joined(reader).await?;
    // What could not be fetched is why the reader stopped.
    pumped?;
    let (hash, faults) = read.ok_or(Error::Interrupted)?;
    let actual = hex::encode(hash);
    let mut told = Vec::new();
    if actual != file.digest.digest() {
        told.push(file.fault(format_args!("its bytes have the digest sha256:{actual}")));
    }
    told.extend(faults.iter().map(|fault| file.fault(fault)));
    Ok(told)
}

/// A part of a file.
pub(super) async fn bytes(
    source: &ImageSource,
    file: &BlobFile,
    range: Range<u64>,
) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut stream = source.range(&file.digest, range).await?;
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes)
}

/// The digest of the bytes and what is wrong in them; `None` if they end early. Blocking.
fn take_in(
    mut pipe: PipeReader,
    parts: Option<&Parts>,
    len: u64,
    tail: &[u8],
) -> Option<([u8; 32], Vec<BlobFault>)> {
    let mut check = parts.and_then(|parts| BlobCheck::new(parts.subject(), len, tail));
    let mut hash = Sha256::new();
    loop {
        let bytes = pipe.fill_buf().ok()?;
        if bytes.is_empty() {
            break;
        }
        hash.update(bytes);
        if let Some(check) = &mut check {
            check.update(bytes);
        }
        let len = bytes.len();
        pipe.consume(len);
    }
    let faults = check.map(BlobCheck::finish).unwrap_or_default();
    Some((hash.finalize().into(), faults))
}
