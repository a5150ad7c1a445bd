//! `make bench-rafs`: measures the reader of bootstraps, prints a table, keeps the figures in the file that is named.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use integration::bench::reader::{HEAP_PER_INODE_MAX, HeapMeter, run};
use integration::bench::record::{keep, show};

/// The system's allocator, with a count of what is allocated.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn grown(len: usize) {
    let live = LIVE.fetch_add(len, Ordering::Relaxed) + len;
    PEAK.fetch_max(live, Ordering::Relaxed);
}

// SAFETY: every call is handed to the system's allocator as it came, so its promises hold; counting touches no memory
// of the caller's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: the caller keeps `alloc`'s promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: the caller keeps `alloc_zeroed`'s promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps `dealloc`'s promises, and `place` came from the system's allocator.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        // As if both were there for a moment, as they are when memory is moved.
        grown(len);
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps `realloc`'s promises, and `place` came from the system's allocator.
        unsafe { System.realloc(place, layout, len) }
    }
}

fn start() -> usize {
    let live = LIVE.load(Ordering::Relaxed);
    PEAK.store(live, Ordering::Relaxed);
    live
}

fn main() -> Result<ExitCode> {
    let path = std::env::args_os().nth(1);
    let path = path.context("usage: bench_rafs FILE; hint: target/bench/rafs.jsonl")?;
    let dir = tempfile::tempdir().context("make a folder for the files to compare with")?;
    let heap = HeapMeter {
        start,
        peak: || PEAK.load(Ordering::Relaxed),
    };
    let records = run(dir.path(), heap)?;
    show(&records, &mut std::io::stdout())?;
    keep(&records, Path::new(&path))?;
    let is_heavy = |record: &&integration::bench::record::Record| {
        record.case == "heap-per-inode" && record.value > HEAP_PER_INODE_MAX
    };
    Ok(match records.iter().find(is_heavy) {
        Some(_) => ExitCode::FAILURE,
        None => ExitCode::SUCCESS,
    })
}
