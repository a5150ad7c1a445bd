//! `make bench-fetch`: measures fetching, by whole nodes over a real line and by the engine alone over a modelled one, prints
//! a table, keeps the figures in the file that is named. Needs root.

use std::io::{Write, stderr, stdout};
use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use integration::bench::density::{self, Origin};
use integration::bench::record::{keep, show};
use integration::bench::{fetch, stream};

#[derive(Parser)]
struct Arguments {
    /// Where to keep the figures, such as target/bench/fetch.jsonl
    file: PathBuf,
    /// Beginnings of names of cases [default: all]
    cases: Vec<String>,
}

fn main() -> Result<()> {
    let Arguments { file, cases } = Arguments::parse();
    let is_wanted = |names: &[&str]| {
        let is_named = |name: &&str| cases.iter().any(|case| name.starts_with(case.as_str()));
        cases.is_empty() || names.iter().any(is_named)
    };
    let (is_density, is_stream) = (is_wanted(&["density"]), is_wanted(&stream::CASES));
    let mut records = Vec::new();
    if is_density || is_stream {
        writeln!(
            stderr(),
            "make, push and convert an image of {} MB",
            density::LEN / 1_000_000
        )?;
        let origin = Origin::start()?;
        if is_density {
            records.extend(density::run(&origin, &mut stderr())?);
        }
        if is_stream {
            records.extend(stream::run(&origin, &mut stderr())?);
        }
    }
    records.extend(fetch::run(&cases, &mut stderr())?);
    show(&records, &mut stdout())?;
    keep(&records, &file)
}
