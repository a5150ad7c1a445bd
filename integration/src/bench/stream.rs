//! Streaming: what it costs the daemon to bring much more than its cache holds, in memory and in processor time.
//!
//! A container's files are read again and again, past the page cache, over an unshaped line. The cache is so small that
//! nearly everything is fetched each time, verified, and evicted or not kept.

use std::fs::File;
use std::hint::black_box;
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::Advice;
use sha2::{Digest, Sha256};

use super::density::{Host, LAZY, Origin};
use super::record::Record;
use crate::containerd::SNAPSHOTTER;
use crate::image::bulk::FILE_COUNT;
use crate::slipwayd::Settings;
use crate::usage::{peak_memory, processor_seconds};

/// Names of the figures.
pub const CASES: [&str; 2] = ["rss-stream", "cpu-per-gb"];
/// Bytes that are streamed at least.
const STREAM_LEN: u64 = 10_000_000_000;
/// Most that the cache holds: a small part of the image.
const CACHE_SIZE_MAX: &str = "256MiB";
/// What the daemon may have in memory, MB.
const MEMORY_MAX: f64 = 80.0;
/// Length of what is hashed and copied as one: the converter's chunks.
const CHUNK_LEN: usize = 1 << 20;
/// Chunks of the baseline: enough for the kernel's coarse count of processor time.
const CHUNK_COUNT: usize = 2048;

/// Takes all figures.
pub fn run(origin: &Origin, out: &mut impl Write) -> Result<Vec<Record>> {
    origin.shape(None)?;
    let settings = Settings {
        log_level: "info",
        fill: "off",
        data_path: "fuse",
        cache_size_max: CACHE_SIZE_MAX,
        ..Settings::default()
    };
    let host = Host::start(origin, &settings)?;
    let reference = origin.reference(LAZY);
    let (containerd, slipwayd) = (&host.containerd, &host.slipwayd);
    slipwayd.pull(&reference, &containerd.socket())?;
    let root = host.scene.folder("container")?;
    containerd.mount_container(SNAPSHOTTER, "container", &root)?;
    let fetched = || -> Result<u64> {
        let image = slipwayd.image(&reference)?.context("the image is served")?;
        image["fetched_bytes"].as_u64().context("a number of bytes")
    };
    let before = processor_seconds(slipwayd.id())?;
    let mut passes = 0;
    while fetched()? < STREAM_LEN {
        read_all(&root)?;
        passes += 1;
        writeln!(
            out,
            "stream: {} MB after {passes} passes, peak of memory {} MB",
            fetched()? / 1_000_000,
            peak_memory(slipwayd.id())? / 1_000_000
        )?;
    }
    let gigabytes = fetched()? as f64 / 1e9;
    let seconds = processor_seconds(slipwayd.id())? - before;
    let memory = peak_memory(slipwayd.id())? as f64 / 1e6;
    Ok(vec![
        Record::new(CASES[0], "node", (memory, "MB"), 1)?.against(MEMORY_MAX),
        Record::new(CASES[1], "node", (seconds / gigabytes, "s/GB"), 1)?.against(hash_and_copy()?),
        Record::new("streamed", "node", (gigabytes, "GB"), 1)?,
    ])
}

/// Reads all files of the image, and has the kernel forget them.
fn read_all(root: &Path) -> Result<()> {
    let mut buffer = vec![0; CHUNK_LEN];
    for number in 0..FILE_COUNT {
        let mut file = File::open(root.join("bulk").join(number.to_string())).context("open a file")?;
        while file.read(&mut buffer).context("read a file")? > 0 {}
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).context("forget a file")?;
    }
    Ok(())
}

/// Processor seconds that this program needs to hash a gigabyte with SHA-256, chunk by chunk, and to copy it once: what
/// nobody who verifies can do without.
fn hash_and_copy() -> Result<f64> {
    let me = std::process::id();
    let (from, mut to) = (vec![7; CHUNK_LEN], vec![0; CHUNK_LEN]);
    let before = processor_seconds(me)?;
    for _ in 0..CHUNK_COUNT {
        black_box(Sha256::digest(black_box(&from)));
        to.copy_from_slice(black_box(&from));
        black_box(&to);
    }
    let seconds = processor_seconds(me)? - before;
    Ok(seconds / ((CHUNK_LEN * CHUNK_COUNT) as f64 / 1e9))
}
