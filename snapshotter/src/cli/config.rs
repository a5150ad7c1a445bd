//! `slipwayd config`.

use clap::{Args, Subcommand};
use snapshotter::config::sample;

use super::printer;
use super::settings::Settings;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print a commented file with every key and its default
    Default,
    /// Read the configuration as `run` would and say whether it can be used
    Check,
}

/// Prints or checks.
pub(super) fn run(settings: &Settings, arguments: &Arguments) -> anyhow::Result<()> {
    match arguments.action {
        Action::Default => printer::data(&sample()),
        Action::Check => {
            settings.config()?;
            printer::note("the configuration can be used");
            Ok(())
        }
    }
}
