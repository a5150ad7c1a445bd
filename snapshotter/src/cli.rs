//! The command line: which command, with which settings. Each command has a file of its own.

mod config;
mod containerd_config;
mod images;
mod keeper;
mod mount;
mod printer;
mod pull;
mod run;
mod settings;
mod signal;
mod status;
mod upgrade;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::settings::Settings;

/// The command could not do what was asked.
const EXIT_ERROR: u8 = 2;

/// Lazy container images on this node: daemon and operator commands.
#[derive(Debug, Parser)]
#[command(name = "slipwayd", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve containerd until SIGTERM or SIGINT
    Run(run::Arguments),
    /// Show an image in a folder until SIGTERM or SIGINT; needs no containerd
    Mount(mount::Arguments),
    /// Pull an image for a containerd whose own clients tell a snapshotter nothing (1.6, 1.7)
    Pull(pull::Arguments),
    /// Tell how the daemon is doing
    Status(printer::Format),
    /// List the images the daemon serves
    Images(printer::Format),
    /// Replace the running daemon by another version of it; containers do not notice
    Upgrade(upgrade::Arguments),
    /// Hold open files for the daemon while it restarts; the daemon starts this by itself
    #[command(hide = true)]
    Keeper(keeper::Arguments),
    /// Print or check the configuration
    Config(config::Arguments),
    /// Print what to add to containerd's configuration
    ContainerdConfig(containerd_config::Arguments),
}

/// Runs the command that was asked for.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let settings = &cli.settings;
    let outcome = match cli.command {
        Command::Run(arguments) => run::run(settings, &arguments),
        Command::Mount(arguments) => mount::run(settings, &arguments),
        Command::Pull(arguments) => pull::run(settings, arguments),
        Command::Status(format) => status::run(settings, format),
        Command::Images(format) => images::run(settings, format),
        Command::Upgrade(arguments) => upgrade::run(settings, &arguments),
        Command::Keeper(arguments) => keeper::run(&arguments),
        Command::Config(arguments) => config::run(settings, &arguments),
        Command::ContainerdConfig(arguments) => containerd_config::run(settings, &arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            printer::error(&error);
            ExitCode::from(EXIT_ERROR)
        }
    }
}

/// A runtime for the short commands.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
