//! A node whose cache holds too much, and that gives it back as soon as it is up: to be killed in the middle of it.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use fuse::{CacheLimits, SizeMax};

use crate::served::{ServedImage, Terms};

/// What it says when it is about to evict.
pub const READY: &str = "ready";

/// Most that its cache may hold.
pub const SIZE_MAX: u64 = 2 << 20;

/// Serves an image with mounts and cache in `dir`, evicts, and waits for the end of standard input. Nothing can be
/// fetched.
pub fn run(bootstrap: &Path, dir: &Path) -> Result<()> {
    let terms = Terms {
        limits: CacheLimits {
            size_max: SizeMax::Bytes(SIZE_MAX),
            free_min: 0,
        },
        ..Terms::default()
    };
    let no_blobs = dir.join("none");
    let served = ServedImage::on_node(&terms, bootstrap, &no_blobs, dir)?;
    let mut out = std::io::stdout();
    writeln!(out, "{READY}").context("tell that it is ready")?;
    served.server().trim(&[]).context("trim the cache")?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).context("wait for the end")?;
    Ok(())
}
