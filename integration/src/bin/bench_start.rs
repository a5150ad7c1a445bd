//! `make bench-start`: measures cold starts of images with and without batches, prints a table, keeps the figures in the
//! file that is named. Needs root.

use std::path::Path;

use anyhow::{Context, Result};
use integration::bench::record::{keep, show};
use integration::bench::start::run;

fn main() -> Result<()> {
    let path = std::env::args_os().nth(1);
    let path = path.context("usage: bench_start FILE; hint: target/bench/start.jsonl")?;
    let records = run(&mut std::io::stderr())?;
    show(&records, &mut std::io::stdout())?;
    keep(&records, Path::new(&path))
}
