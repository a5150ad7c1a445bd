//! The reader of bootstraps: opening, walking, looking up, and the memory that takes.

use std::hint::black_box;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rafs::{FileType, Image, Nid};

use super::record::{Record, median};
use super::tree::{self, Sample};

/// Inodes of the image: a large one. Debian with Python and PyTorch has a tenth.
pub const INODE_COUNT: usize = 500_000;
/// Samples of each figure.
const SAMPLES: usize = 5;
/// One path in so many is looked up; a prime, so that all kinds of names come up.
const LOOKUP_EVERY: usize = 7;
/// Bytes of heap that reading may cost for each inode.
pub const HEAP_PER_INODE_MAX: f64 = 100.0;

const TIER: &str = "reader";

/// Counts the heap of this process.
#[derive(Clone, Copy, Debug)]
pub struct HeapMeter {
    /// Starts counting anew and returns the bytes that are allocated.
    pub start: fn() -> usize,
    /// Most bytes that were allocated at once since the start.
    pub peak: fn() -> usize,
}

/// Takes all figures. `dir` is a folder on the file system that they are held against.
pub fn run(dir: &Path, heap: HeapMeter) -> Result<Vec<Record>> {
    let sample = tree::make(INODE_COUNT)?;
    let mut records = vec![open(&sample)?];
    records.extend(memory(&sample, heap)?);
    tree::lay_out(&sample.paths, dir)?;
    records.push(walk(&sample, dir)?);
    records.push(lookup(&sample, dir)?);
    Ok(records)
}

/// Seconds that `work` takes: the median, after one round that warms up.
fn seconds(mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    work()?;
    let mut samples = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let started = Instant::now();
        work()?;
        samples.push(started.elapsed().as_secs_f64());
    }
    Ok(median(samples))
}

fn open(sample: &Sample) -> Result<Record> {
    let taken = seconds(|| {
        black_box(Image::open(sample.bootstrap.as_slice())?);
        Ok(())
    })?;
    Record::new("open", TIER, (taken * 1000.0, "ms"), SAMPLES)
}

/// The heap of an open image that is walked; the bootstrap itself is a mapped file, so it does not count.
fn memory(sample: &Sample, heap: HeapMeter) -> Result<[Record; 2]> {
    let before = (heap.start)();
    let image = Image::open(sample.bootstrap.as_slice())?;
    ensure!(walk_image(&image)? == INODE_COUNT, "some inode was not reached");
    let peak = (heap.peak)().saturating_sub(before) as f64;
    let kept = (heap.start)().saturating_sub(before) as f64;
    drop(image);
    let per_chunk = kept / f64::from(sample.chunk_count);
    Ok([
        Record::new("heap-per-inode", TIER, (peak / INODE_COUNT as f64, "bytes"), 1)?,
        Record::new("heap-per-chunk", TIER, (per_chunk, "bytes"), 1)?,
    ])
}

fn walk(sample: &Sample, dir: &Path) -> Result<Record> {
    let image = Image::open(sample.bootstrap.as_slice())?;
    let ours = seconds(|| {
        ensure!(walk_image(&image)? == INODE_COUNT, "some inode was not reached");
        Ok(())
    })?;
    let theirs = seconds(|| {
        ensure!(walk_files(dir)? == INODE_COUNT, "some file was not reached");
        Ok(())
    })?;
    let rate = |seconds: f64| INODE_COUNT as f64 / seconds;
    Ok(Record::new("walk", TIER, (rate(ours), "inodes/s"), SAMPLES)?.against(rate(theirs)))
}

/// Decodes every inode, directory by directory. Returns how many there are.
fn walk_image(image: &Image<&[u8]>) -> Result<usize> {
    let mut count = 1;
    let mut ahead: Vec<Nid> = vec![image.root()];
    while let Some(nid) = ahead.pop() {
        let dir = image.inode(nid)?;
        for entry in image.entries_from(&dir, 0)? {
            let entry = entry?;
            if matches!(entry.name, b"." | b"..") {
                continue;
            }
            let inode = black_box(image.inode(entry.nid)?);
            if inode.file_type == FileType::Directory {
                ahead.push(entry.nid);
            }
            count += 1;
        }
    }
    Ok(count)
}

/// Asks the kernel for the attributes of every file. Returns how many there are.
fn walk_files(dir: &Path) -> Result<usize> {
    let mut count = 1;
    let mut ahead: Vec<PathBuf> = vec![dir.to_owned()];
    while let Some(dir) = ahead.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))? {
            let entry = entry?;
            if black_box(entry.metadata()?).is_dir() {
                ahead.push(entry.path());
            }
            count += 1;
        }
    }
    Ok(count)
}

fn lookup(sample: &Sample, dir: &Path) -> Result<Record> {
    let image = Image::open(sample.bootstrap.as_slice())?;
    let paths: Vec<&Path> = sample
        .paths
        .iter()
        .step_by(LOOKUP_EVERY)
        .map(|(path, _)| path.as_path())
        .collect();
    let full: Vec<PathBuf> = paths.iter().map(|path| dir.join(path)).collect();
    let ours = seconds(|| paths.iter().try_for_each(|path| find(&image, path)))?;
    let theirs = seconds(|| {
        for path in &full {
            black_box(path.symlink_metadata()?);
        }
        Ok(())
    })?;
    let rate = |seconds: f64| paths.len() as f64 / seconds;
    Ok(Record::new("lookup", TIER, (rate(ours), "paths/s"), SAMPLES)?.against(rate(theirs)))
}

fn find(image: &Image<&[u8]>, path: &Path) -> Result<()> {
    let mut inode = image.inode(image.root())?;
    for name in path {
        let entry = image.lookup(&inode, name.as_bytes())?;
        let entry = entry.with_context(|| format!("{} is not in the image", path.display()))?;
        inode = image.inode(entry.nid)?;
    }
    black_box(inode);
    Ok(())
}
