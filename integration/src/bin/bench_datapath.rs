//! `make bench-datapath`: reads one tree through ext4, overlayfs and Slipway, prints a table, keeps the figures in the
//! file that is named.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use integration::bench::datapath::run;
use integration::bench::record::{keep, show};
use integration::scene::Scene;

fn main() -> Result<()> {
    let path = std::env::args_os().nth(1);
    let path = path.context("usage: bench_datapath FILE; hint: target/bench/datapath.jsonl")?;
    let scene = Arc::new(Scene::create()?);
    let records = run(&scene, &mut std::io::stderr())?;
    show(&records, &mut std::io::stdout())?;
    keep(&records, Path::new(&path))
}
