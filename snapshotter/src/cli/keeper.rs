//! `slipwayd keeper`: started by `slipwayd run`, not by people.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use snapshotter::keeper;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Path of the socket that standard input listens on
    socket: PathBuf,
}

/// Holds what it is given until it is told to end, or nobody can find it any more.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let held = keeper::hold(&arguments.socket);
    held.with_context(|| format!("cannot keep anything for {}", arguments.socket.display()))
}
