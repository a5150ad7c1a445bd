//! Bulk: many files that do not shrink, of which a program reads some.

use std::path::Path;

use anyhow::Result;

use super::busybox;
use super::edge::noise;
use super::layer::{Entry, Kind};
use super::layout::{Compression, Layout};

/// Name of the image in its layout folder.
pub const TAG: &str = "bulk:1";
/// Files.
pub const FILE_COUNT: usize = 200;

/// Writes an image with a shell and [`FILE_COUNT`] files `/bulk/N` of so many bytes. The layer is not compressed, since
/// it would not shrink: whoever unpacks it is spared the work.
pub fn make(dir: &Path, file_len: usize) -> Result<()> {
    let mut layout = Layout::create(dir)?;
    let shell = busybox::layer(&mut layout)?;
    let bulk = layout.layer(Compression::None, |tar| {
        tar.append(&Entry::new("bulk", Kind::Directory))?;
        (0..FILE_COUNT).try_for_each(|number| {
            let content = noise(file_len, number as u64 + 1);
            tar.append(&Entry::new(&format!("bulk/{number}"), Kind::File(&content)))
        })
    })?;
    layout.image(TAG, &[shell, bulk], &["/bin/sh"])
}
