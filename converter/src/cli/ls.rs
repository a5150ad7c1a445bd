//! `slipway ls IMG [PATH]`.

use converter::listing::list;

use super::DONE;
use super::place::{Subject, Which};
use super::printer::Printer;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// RAFS image or bootstrap file.
    #[arg(value_name = "IMG|FILE")]
    subject: Subject,
    /// Directory or file in the image.
    #[arg(value_name = "PATH", default_value = "/")]
    path: std::ffi::OsString,
    #[command(flatten)]
    which: Which,
}

pub(crate) async fn run(args: Args, printer: &Printer) -> anyhow::Result<u8> {
    let image = args.which.open_bootstrap(&args.subject).await?;
    let lines = list(&image, &args.path)?;
    printer.data(&lines.iter().map(|line| format!("{line}\n")).collect::<String>())?;
    Ok(DONE)
}
