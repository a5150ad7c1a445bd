//! Serves an image whose cache holds too much, and evicts: a part of the crash tests.

use std::path::PathBuf;

use clap::Parser;
use integration::evictor::run;

#[derive(Parser)]
struct Arguments {
    /// The image's bootstrap
    bootstrap: PathBuf,
    /// Folder for mounts, with a cache that is full
    dir: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    run(&arguments.bootstrap, &arguments.dir)
}
