//! The bootstrap that a layer's file has of its own, for tools that merge or unpack layers.

use proto::image::ImageSource;
use rafs::blob::{TOC_TAIL_MAX, Toc};

use super::blob::BlobFile;
use super::file::bytes;
use crate::error::Error;

/// Most bytes of a bootstrap as stored that is looked into: it is held in memory.
const STORED_LEN_MAX: u64 = 256 << 20;

/// Checks the bootstrap in a file of `len` bytes, if there is one that can be read: what is wrong with the sections of
/// the file is told elsewhere.
pub(super) async fn check(source: &ImageSource, file: &BlobFile, len: u64) -> Result<Vec<String>, Error> {
    let tail = bytes(source, file, len.saturating_sub(TOC_TAIL_MAX)..len).await?;
    let Ok(contents) = Toc::read(&tail, len) else {
        return Ok(Vec::new());
    };
    let Some(section) = contents.section("image.boot").cloned() else {
        return Ok(Vec::new());
    };
    if section.range.end - section.range.start > STORED_LEN_MAX {
        return Ok(Vec::new());
    }
    let stored = bytes(source, file, section.range.clone()).await?;
    let mut id = [0; 32];
    // An id that is none stays what stands for it, and is told as that.
    let _ = hex::decode_to_slice(file.digest.digest(), &mut id);
    let start = section.range.start;
    let checked = tokio::task::spawn_blocking(move || {
        let mut bootstrap = section.expand(&stored).ok()?;
        rafs::image::name_layer(&mut bootstrap, id);
        Some(rafs::image::check(&bootstrap))
    });
    let told = |fault: &dyn std::fmt::Display| file.fault(format_args!("byte {start}: image.boot: {fault}"));
    Ok(match checked.await.map_err(|_| Error::Interrupted)? {
        None => Vec::new(),
        Some(Ok(faults)) => faults.iter().map(|fault| told(fault)).collect(),
        Some(Err(error)) => vec![told(&error)],
    })
}
