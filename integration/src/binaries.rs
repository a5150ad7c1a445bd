//! The workspace's own programs, as cargo built them.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The converter's command line.
pub fn slipway() -> Result<Command> {
    Ok(Command::new(built("slipway")?))
}

/// The daemon.
pub fn slipwayd() -> Result<Command> {
    Ok(Command::new(built("slipwayd")?))
}

/// A reader of the crash tests.
pub fn reader() -> Result<Command> {
    Ok(Command::new(built("reader")?))
}

/// An evictor of the crash tests.
pub fn evictor() -> Result<Command> {
    Ok(Command::new(built("evictor")?))
}

/// Finds a program beside this one. Cargo tells a crate's tests only of the crate's own programs, but all programs of
/// one profile lie in one folder: the parent of this program's, or of `deps/` in the case of a test.
fn built(name: &str) -> Result<PathBuf> {
    let me = std::env::current_exe().context("find this program")?;
    let mut dir = me.parent().context("this program lies in a folder")?;
    if dir.ends_with("deps") {
        dir = dir.parent().context("deps lies in a profile's folder")?;
    }
    let path = dir.join(name);
    ensure!(
        path.is_file(),
        "{} is not there\nhint: build it first: cargo build --workspace --bins (make test does)",
        path.display()
    );
    Ok(path)
}
