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
mod signals;
mod unpack;

use failure::Interrupted;
use printer::{Notes, Printer};

/// How long threads that are in the middle of something may hold up the end. A file on a dead server never answers.
const GRACE: Duration = Duration::from_secs(2);

/// Done.
const DONE: u8 = 0;
/// A negative answer: `check` found damage.
const NEGATIVE: u8 = 1;
/// An error.
const FAILED: u8 = 2;

const EXIT_CODES: &str = "\
Exit codes:
  0      done
  1      check: the image is damaged or differs
  2      an error; what is wrong and what helps is on standard error
  128+N  ended by signal N";

/// Converts OCI images so that nodes can start containers before their data has arrived, and reads what it made.
///
/// Images are named as skopeo names them: docker://HOST/REPOSITORY:TAG (the default when no transport is given),
/// oci:DIR or oci:DIR:TAG, oci-archive:FILE or oci-archive:FILE:TAG and, to read from, docker-archive:FILE.
#[derive(Debug, Parser)]
#[command(name = "slipway", version, max_term_width = 100, after_help = EXIT_CODES)]
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

impl Command {
    /// How what is told beside the result is to be written.
    fn notes(&self) -> Notes {
        match self {
            Command::Convert(args) => args.notes(),
            Command::Unpack(args) => args.notes(),
            Command::Check(_) | Command::Hints(_) | Command::Inspect(_) | Command::Ls(_) => Notes::Text,
        }
    }
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
    let printer = Printer::new(cli.command.notes());
    printer::log(cli.verbose, printer);
    let code = match run(cli.command, &printer) {
        Ok(code) => code,
        Err(error) if failure::is_closed_pipe(&error) => DONE,
        Err(error) => {
            failure::print(&printer, &error);
            error
                .downcast_ref::<Interrupted>()
                .map_or(FAILED, |interrupted| interrupted.by.exit_code())
        }
    };
    code.into()
}

fn run(command: Command, printer: &Printer) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let hint = match &command {
        Command::Convert(_) => Some("nothing was tagged; run the same command again"),
        Command::Unpack(args) => args.unfinished(),
        Command::Check(_) | Command::Hints(_) | Command::Inspect(_) | Command::Ls(_) => None,
    };
    let code = runtime.block_on(async {
        // Dropping the command's future gives up everything that is not finished: no tag is written before the end.
        tokio::select! {
            code = execute(command, printer) => code,
            by = signals::ended() => {
                Err(by.map_or_else(anyhow::Error::from, |by| Interrupted { by, hint }.into()))
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
