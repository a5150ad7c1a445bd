//! `make bench-fetch`: measures fetching over a line that is modelled, prints a table, keeps the figures in the file that
//! is named. Needs root.

use std::path::Path;

use anyhow::{Context, Result};
use integration::bench::fetch::run;
use integration::bench::record::{keep, show};

fn main() -> Result<()> {
    let path = std::env::args_os().nth(1);
    let path = path.context("usage: bench_fetch FILE; hint: target/bench/fetch.jsonl")?;
    let records = run(&mut std::io::stderr())?;
    show(&records, &mut std::io::stdout())?;
    keep(&records, Path::new(&path))
}
