//! Fetching: how much of a line is used, and what readers pay while an image is filled.
//!
//! The line is a model in this process ([`mod@line`]): it has neither HTTP nor sockets, so the figures are those of the
//! engine, the cache and FUSE.

pub mod line;
pub mod stage;

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use self::line::Line;
use self::stage::Stage;
use super::record::{Record, median};
use crate::image::single::Single;

/// Bytes of the image: enough for several seconds at 1 Gbit/s.
const LEN: usize = 384 << 20;

/// The converter's default.
const CHUNK_LEN: usize = 1 << 20;

/// Samples of each figure.
const SAMPLES: usize = 3;

/// Random reads of one sample.
const READS: u64 = 60;

/// Latency of the line in the cases that do not vary it.
const LATENCY: Duration = Duration::from_millis(5);

/// The rates, bytes a second, with the names of the cases.
const LINES: [(&str, &str, Option<u64>); 3] = [
    ("full-local-200mbit", "line-200mbit", Some(25_000_000)),
    ("full-local-1gbit", "line-1gbit", Some(125_000_000)),
    ("full-local-unshaped", "line-unshaped", None),
];

/// Takes the figures of the cases whose names begin with one of `wanted`, or of all cases if none is named.
pub fn run(wanted: &[String], out: &mut impl Write) -> Result<Vec<Record>> {
    let is_wanted = |case: &str| wanted.is_empty() || wanted.iter().any(|name| case.starts_with(name));
    let sample = Single::make(LEN, CHUNK_LEN)?;
    let mut records = Vec::new();
    for (full_local, sequential, rate) in LINES {
        let cases = [(full_local, fill as Work), (sequential, read)];
        for (case, work) in cases.into_iter().filter(|(case, _)| is_wanted(case)) {
            writeln!(out, "{case}")?;
            let mut samples = Vec::new();
            let mut requests = Vec::new();
            for _ in 0..SAMPLES {
                let line = Line::new(sample.blob.clone(), rate, LATENCY);
                let stage = Stage::start(&sample, line.clone())?;
                let elapsed = work(&stage)?;
                samples.push(LEN as f64 / 1e6 / elapsed.as_secs_f64());
                requests.push(line.requests() as f64 * 1e9 / LEN as f64);
            }
            let record = Record::new(case, "fuse", (median(samples), "MB/s"), SAMPLES)?;
            records.push(match rate {
                Some(rate) => record.against(rate as f64 / 1e6),
                None => record,
            });
            let requests = (median(requests), "requests/GB");
            records.push(Record::new(case, "fuse", requests, SAMPLES)?);
        }
    }
    if is_wanted("demand-p99") {
        writeln!(out, "demand-p99")?;
        records.push(demand(&sample)?);
    }
    Ok(records)
}

/// What readers pay while an image is filled.
fn demand(sample: &Single) -> Result<Record> {
    let (mut off, mut on) = (Vec::new(), Vec::new());
    for _ in 0..SAMPLES {
        off.push(demand_p99(sample, false)?);
        on.push(demand_p99(sample, true)?);
    }
    let record = Record::new("demand-p99", "fuse", (median(on), "ms"), SAMPLES)?;
    Ok(record.against(median(off)))
}

type Work = fn(&Stage) -> Result<Duration>;

/// Fills until all is in the cache.
fn fill(stage: &Stage) -> Result<Duration> {
    let began = Instant::now();
    stage.fill();
    while !stage.is_complete() {
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(began.elapsed())
}

/// Reads the file from front to back, with nothing in the cache and no filling.
fn read(stage: &Stage) -> Result<Duration> {
    let mut file = File::open(stage.file()).context("open the file")?;
    let mut buffer = vec![0; 1 << 20];
    let began = Instant::now();
    while file.read(&mut buffer).context("read the file")? > 0 {}
    Ok(began.elapsed())
}

/// Reads 4 KiB here and there at 1 Gbit/s, with or without filling. Milliseconds.
fn demand_p99(sample: &Single, is_filled: bool) -> Result<f64> {
    let line = Line::new(sample.blob.clone(), Some(125_000_000), LATENCY);
    let stage = Stage::start(sample, line)?;
    let file = File::open(stage.file()).context("open the file")?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random)?;
    if is_filled {
        stage.fill();
    }
    let mut times = Vec::new();
    let chunks = (LEN >> 20) as u64;
    for step in 0..READS {
        // From the end on, since the filling begins at the start; a stride that is no neighbour's.
        let chunk = chunks - 1 - step * 37 % (chunks / 2);
        let mut buffer = [0; 4096];
        let began = Instant::now();
        file.read_exact_at(&mut buffer, chunk << 20)
            .context("read the file")?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() * 99 / 100])
}
