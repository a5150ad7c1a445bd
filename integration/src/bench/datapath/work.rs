//! What is done on each side, and how fast it went. Every function gets a root and the number of the sample.
#![allow(unsafe_code)]

use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::ptr::null_mut;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rustix::fs::{Advice, fadvise};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::super::record::median;
use super::SAMPLES;
use super::sample::{self, FOLDER_COUNT, LARGE_COUNT, LARGE_LEN, SMALL_COUNT, folder, large};

/// Bytes of one read, the size that `cat` and `cp` use.
const READ_LEN: usize = 128 << 10;
/// Bytes of one random read.
const PAGE_LEN: usize = 4096;
/// Random reads of one sample.
const RANDOM_COUNT: usize = 1000;
/// Folders of small files that one sample of a cold case reads.
const COLD_FOLDER_COUNT: usize = FOLDER_COUNT / SAMPLES / 10;
/// Bytes of a megabyte in rates.
const MEGA: f64 = 1e6;

/// All large files in pieces of 128 KiB: MB/s.
pub fn sequential(root: &Path, _sample: usize) -> Result<f64> {
    let started = Instant::now();
    for number in 0..LARGE_COUNT {
        read(&root.join(large(number)))?;
    }
    Ok((LARGE_COUNT * LARGE_LEN) as f64 / MEGA / started.elapsed().as_secs_f64())
}

/// One large file, another for each sample: MB/s.
pub fn sequential_one(root: &Path, sample: usize) -> Result<f64> {
    let started = Instant::now();
    read(&root.join(large(sample % LARGE_COUNT)))?;
    Ok(LARGE_LEN as f64 / MEGA / started.elapsed().as_secs_f64())
}

fn read(path: &Path) -> Result<()> {
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut buffer = vec![0; READ_LEN];
    let mut len = 0;
    loop {
        match file.read(&mut buffer).context("read")? {
            0 => break,
            read => len += read,
        }
        black_box(&buffer);
    }
    ensure!(len == LARGE_LEN, "{} has {len} bytes", path.display());
    Ok(())
}

/// All large files mapped, and copied out as a loader of tensors does: MB/s.
pub fn mapped(root: &Path, _sample: usize) -> Result<f64> {
    let mut buffer = vec![0; READ_LEN];
    let started = Instant::now();
    for number in 0..LARGE_COUNT {
        let file = File::open(root.join(large(number))).context("open a large file")?;
        // SAFETY: a new mapping at a place of the kernel's choice touches no memory that is in use.
        let map = unsafe { mmap(null_mut(), LARGE_LEN, ProtFlags::READ, MapFlags::SHARED, &file, 0) };
        let map = map.context("map a large file")?;
        // SAFETY: the mapping is this long, stays until munmap below, and nobody writes to the file.
        let bytes = unsafe { std::slice::from_raw_parts(map.cast::<u8>(), LARGE_LEN) };
        for piece in bytes.chunks(READ_LEN) {
            buffer[..piece.len()].copy_from_slice(piece);
            black_box(&buffer);
        }
        // SAFETY: the slice is not used any more.
        unsafe { munmap(map, LARGE_LEN) }.context("unmap a large file")?;
    }
    Ok((LARGE_COUNT * LARGE_LEN) as f64 / MEGA / started.elapsed().as_secs_f64())
}

/// Every small file opened, read and closed: files/s.
fn small_files(root: &Path, folders: std::ops::Range<usize>) -> Result<f64> {
    let mut buffer = vec![0; READ_LEN];
    let mut count = 0;
    let started = Instant::now();
    for number in folders {
        for file in 0..SMALL_COUNT {
            let path = root.join(sample::small(number, file));
            let mut file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
            ensure!(
                file.read(&mut buffer).context("read")? > 0,
                "a small file is empty"
            );
            count += 1;
        }
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}

/// All 20,000 of them: files/s.
pub fn small(root: &Path, _sample: usize) -> Result<f64> {
    small_files(root, 0..FOLDER_COUNT)
}

/// Some folders of them, others for each sample: files/s.
pub fn small_some(root: &Path, sample: usize) -> Result<f64> {
    let first = sample % SAMPLES * COLD_FOLDER_COUNT;
    small_files(root, first..first + COLD_FOLDER_COUNT)
}

/// Every folder listed and every file looked at, as `find` with a condition does: files/s.
pub fn stat(root: &Path, _sample: usize) -> Result<f64> {
    let mut count = 0;
    let started = Instant::now();
    for number in 0..FOLDER_COUNT {
        for entry in root.join(folder(number)).read_dir().context("list a folder")? {
            black_box(entry?.metadata().context("look at a file")?);
            count += 1;
        }
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}

/// Single pages all over the large files, each read once: microseconds of the middle one.
pub fn random(root: &Path, sample: usize) -> Result<f64> {
    let files = (0..LARGE_COUNT).map(|number| {
        let file = File::open(root.join(large(number))).context("open a large file")?;
        fadvise(&file, 0, None, Advice::Random).context("announce random reads")?;
        Ok(file)
    });
    let files: Vec<File> = files.collect::<Result<_>>()?;
    let page_count = LARGE_LEN / PAGE_LEN;
    let mut buffer = vec![0; PAGE_LEN];
    let mut times = Vec::with_capacity(RANDOM_COUNT);
    for number in 0..RANDOM_COUNT {
        // A step without a common divisor with the number of pages meets each page once.
        let page = (sample * 7919 + number * 15_486_179) % page_count;
        let started = Instant::now();
        let file = &files[number % LARGE_COUNT];
        file.read_exact_at(&mut buffer, (page * PAGE_LEN) as u64)
            .context("read a page")?;
        times.push(started.elapsed().as_secs_f64() * 1e6);
        black_box(&buffer);
    }
    Ok(median(times))
}
