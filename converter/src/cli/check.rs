//! `slipway check IMG|FILE`.

use std::sync::Arc;

use converter::check;
use converter::opened;

use super::place::{Subject, Which};
use super::printer::Printer;
use super::{DONE, NEGATIVE};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// RAFS image or bootstrap file.
    #[arg(value_name = "IMG|FILE")]
    subject: Subject,
    /// Fetch and verify every chunk of the image.
    #[arg(long)]
    data: bool,
    #[command(flatten)]
    which: Which,
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, printer: &Printer) -> anyhow::Result<u8> {
    let findings = match &args.subject {
        Subject::File(_) if args.data => {
            anyhow::bail!("--data needs an image: a bootstrap file says nothing of where its blobs are")
        }
        Subject::File(path) => match opened::open_file(path) {
            Ok(image) => check::check_bootstrap(&image),
            Err(error) => return damaged(error, &args, printer),
        },
        Subject::Image(location) => match args.which.open(location).await {
            Ok(image) => check::check_image(Arc::new(image), args.data).await?,
            Err(error) => match error.downcast::<converter::Error>() {
                Ok(error) => return damaged(error, &args, printer),
                Err(error) => return Err(error),
            },
        },
    };
    report(&findings, &args, printer)
}

/// A bootstrap that is one and is broken is an answer; one that cannot be read at all is an error.
fn damaged(error: converter::Error, args: &Args, printer: &Printer) -> anyhow::Result<u8> {
    match check::damage(&error) {
        Some(findings) => report(&findings, args, printer),
        None => Err(error.into()),
    }
}

fn report(findings: &check::Findings, args: &Args, printer: &Printer) -> anyhow::Result<u8> {
    if args.json {
        printer.json(findings)?;
    } else {
        let faults: String = findings
            .faults
            .iter()
            .map(|fault| format!("{}: {fault}\n", args.subject))
            .collect();
        printer.data(&faults)?;
    }
    if !findings.faults.is_empty() {
        printer.note(&format!("{}: {} faults", args.subject, findings.faults.len()));
        return Ok(NEGATIVE);
    }
    let (inodes, blobs, chunks) = (findings.inode_count, findings.blob_count, findings.chunk_count);
    let chunks = if args.data {
        format!(", {chunks} chunks verified")
    } else {
        String::new()
    };
    printer.note(&format!(
        "{}: no fault found; {inodes} names, {blobs} blobs{chunks}",
        args.subject
    ));
    Ok(DONE)
}
