//! `make bench-fetch`: measures fetching, by whole nodes over a real line and by the engine alone over a modelled one, prints
//! a table, keeps the figures in the file that is named. Needs root.

use std::path::Path;

use anyhow::{Context, Result};
use integration::bench::density;
use integration::bench::fetch::run;
use integration::bench::record::{keep, show};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: bench_fetch FILE [CASE...]; hint: target/bench/fetch.jsonl, and beginnings of names of cases of the fuse tier";
    let path = args.next().context(usage)?;
    let wanted: Vec<String> = args.collect();
    let mut records = Vec::new();
    if wanted.is_empty() {
        records.extend(density::run(&mut std::io::stderr())?);
    }
    records.extend(run(&wanted, &mut std::io::stderr())?);
    show(&records, &mut std::io::stdout())?;
    keep(&records, Path::new(&path))
}
