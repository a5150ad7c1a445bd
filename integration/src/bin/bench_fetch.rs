//! `make bench-fetch`: measures fetching, by whole nodes over a real line and by the engine alone over a modelled one, prints
//! a table, keeps the figures in the file that is named. Needs root.

use std::path::Path;

use anyhow::{Context, Result};
use integration::bench::density;
use integration::bench::fetch::run;
use integration::bench::record::{keep, show};

fn main() -> Result<()> {
    let path = std::env::args_os().nth(1);
    let path = path.context("usage: bench_fetch FILE; hint: target/bench/fetch.jsonl")?;
    let mut records = density::run(&mut std::io::stderr())?;
    records.extend(run(&mut std::io::stderr())?);
    show(&records, &mut std::io::stdout())?;
    keep(&records, Path::new(&path))
}
