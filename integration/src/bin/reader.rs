//! Reads a tree in one way until standard input ends, and prints what it met: a part of the crash tests.

use std::path::PathBuf;

use clap::Parser;
use integration::reader::{Way, run};

#[derive(Parser)]
struct Arguments {
    /// How to read
    way: Way,
    /// The tree
    root: PathBuf,
    /// A copy of it that is right
    truth: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    run(arguments.way, &arguments.root, &arguments.truth)
}
