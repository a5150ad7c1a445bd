//! `slipwayd containerd-config`.

use std::process::Command;

use anyhow::Context;
use clap::Args;
use snapshotter::containerd_config::{Version, installed_version, render};
use snapshotter::layout::Layout;

use super::printer;
use super::settings::Settings;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Version of containerd, such as 1.7 [default: the one that is installed]
    // `--version` alone means the program's own version only outside of this command.
    #[arg(long = "version", value_name = "VERSION")]
    containerd_version: Option<Version>,
}

/// Prints the lines to add.
pub(super) fn run(settings: &Settings, arguments: &Arguments) -> anyhow::Result<()> {
    let config = settings.config()?;
    let version = match arguments.containerd_version {
        Some(version) => version,
        None => installed()?,
    };
    let layout = Layout::new(&config.root, &config.run_dir);
    let address = config.address.unwrap_or_else(|| layout.address());
    printer::data(&render(
        version,
        &address,
        layout.root(),
        config.overlay.remap_ids,
    ))
}

fn installed() -> anyhow::Result<Version> {
    let output = Command::new("containerd")
        .arg("--version")
        .output()
        .context("cannot ask containerd for its version; hint: name it with --version")?;
    Ok(installed_version(&String::from_utf8_lossy(&output.stdout))?)
}
