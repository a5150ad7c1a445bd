//! `make bench-datapath`: reads one tree through ext4, overlayfs and Slipway, prints a table, keeps the figures in the
//! file that is named.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use integration::bench::datapath::run;
use integration::bench::record::{keep, show};
use integration::scene::Scene;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let path = args.next();
    let path = path.context("usage: bench_datapath FILE [CASE]...; hint: target/bench/datapath.jsonl")?;
    let wanted: Vec<String> = args.collect();
    let scene = Arc::new(Scene::create()?);
    let records = run(&scene, &wanted, &mut std::io::stderr())?;
    show(&records, &mut std::io::stdout())?;
    keep(&records, Path::new(&path))
}
