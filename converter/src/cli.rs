//! Command line of `slipway`: parsing, the runtime, exit codes. Each command has its own file.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

mod check;
mod convert;
mod failure;
mod hints;
mod inspect;
mod ls;
mod packing;
mod place;
mod printer;
mod progress;
mod unpack;

use failure::Interrupted;
use printer::Printer;

/// How long threads that are in the middle of something may hold up the end. A file on a dead server never answers.
const GRACE: Duration = Duration::from_secs(2);

/// Done.
const DONE: u8 = 0;
/// A negative answer: `check` found damage.
const NEGATIVE: u8 = 1;
/// An error.
const FAILED: u8 = 2;

/// Converts OCI images so that nodes can start containers before their data has arrived, and reads what it made.
///
/// Images are named as skopeo names them: docker://HOST/REPOSITORY:TAG (the default when no transport is given),
/// oci:DIR or oci:DIR:TAG, oci-archive:FILE or oci-archive:FILE:TAG and, to read from, docker-archive:FILE.
#[derive(Debug, Parser)]
#[command(name = "slipway", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print more of what happens to standard error; twice for all of it.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Convert an OCI or docker image to a RAFS image, or a RAFS image back to a plain one.
    Convert(Box<convert::Args>),
    /// Check a RAFS image or a bootstrap file for damage.
    Check(check::Args),
    /// Show what a RAFS image or a bootstrap file holds.
    Inspect(inspect::Args),
    /// Show what nodes are told to fetch ahead.
    Hints(hints::Args),
    /// List a directory of a RAFS image.
    Ls(ls::Args),
    /// Unpack a RAFS image to a folder or a tar archive.
    Unpack(unpack::Args),
}

/// Runs the command and turns its end into an exit code.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version are no errors and go to standard output; clap knows.
        Err(error) => {
            let code = if error.use_stderr() { FAILED } else { DONE };
            return match error.print() {
                Ok(()) => code.into(),
                Err(_) => FAILED.into(),
            };
        }
    };
    let printer = Printer::new();
    printer::log(cli.verbose);
    let code = match run(cli.command, &printer) {
        Ok(code) => code,
        Err(error) if failure::is_closed_pipe(&error) => DONE,
        Err(error) => {
            failure::print(&printer, &error);
            FAILED
        }
    };
    code.into()
}

fn run(command: Command, printer: &Printer) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let hint = match &command {
        Command::Convert(_) => Some("nothing was tagged; run the same command again"),
        Command::Unpack(_) => Some("what was unpacked so far is incomplete; remove it"),
        Command::Check(_) | Command::Hints(_) | Command::Inspect(_) | Command::Ls(_) => None,
    };
    let code = runtime.block_on(async {
        // Dropping the command's future gives up everything that is not finished: no tag is written before the end.
        tokio::select! {
            code = execute(command, printer) => code,
            signal = tokio::signal::ctrl_c() => {
                Err(signal.map_or_else(anyhow::Error::from, |()| Interrupted { hint }.into()))
            }
        }
    });
    runtime.shutdown_timeout(GRACE);
    code
}

async fn execute(command: Command, printer: &Printer) -> anyhow::Result<u8> {
    match command {
        Command::Convert(args) => convert::run(*args, printer).await,
        Command::Check(args) => check::run(args, printer).await,
        Command::Inspect(args) => inspect::run(args, printer).await,
        Command::Hints(args) => hints::run(args, printer).await,
        Command::Ls(args) => ls::run(args, printer).await,
        Command::Unpack(args) => unpack::run(args, printer).await,
    }
}
