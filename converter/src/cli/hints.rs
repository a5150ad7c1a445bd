//! `slipway hints show IMG`.

use std::fmt::Write;

use clap::Subcommand;
use proto::image::Location;
use rafs::hints::{Class, FileHint, Hints};

use super::DONE;
use super::place::Which;
use super::printer::Printer;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print what nodes are told to fetch ahead, most urgent first.
    Show(Show),
}

#[derive(Debug, clap::Args)]
struct Show {
    /// RAFS image.
    #[arg(value_name = "IMG")]
    image: Location,
    #[command(flatten)]
    which: Which,
    /// Print the list as it lies in the image, for `slipway convert --prefetch-file`.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, printer: &Printer) -> anyhow::Result<u8> {
    let Action::Show(args) = args.action;
    let Some(text) = args.which.fetch(&args.image).await?.hints().await? else {
        printer.note(&format!("{}: no hints", args.image));
        return Ok(DONE);
    };
    let hints = Hints::parse(&text)?;
    match args.json {
        true => printer.data(&format!("{}\n", String::from_utf8(hints.to_json()?)?))?,
        false => printer.data(&lines(&hints)?)?,
    }
    Ok(DONE)
}

fn lines(hints: &Hints) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    for FileHint { path, class, ranges } in &hints.files {
        let class = match class {
            None => "-",
            Some(Class::Meta) => "meta",
            Some(Class::Exec) => "exec",
            Some(Class::Weights) => "weights",
            Some(Class::Bulk) => "bulk",
        };
        // Escaped, so that a path cannot take over a terminal.
        write!(out, "{class:<8} {}", path.escape_debug())?;
        for range in ranges {
            write!(out, " {}+{}", range.start, range.end - range.start)?;
        }
        out.push('\n');
    }
    Ok(out)
}
