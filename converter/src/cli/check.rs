//! `slipway check IMG|FILE`.

use std::sync::Arc;

use converter::check::{self, Findings};
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
    let findings = match look(&args).await {
        Ok(findings) => findings,
        // What is there and is broken is an answer; what cannot be looked at is an error.
        Err(error) => match error.downcast_ref().and_then(check::damage) {
            Some(findings) => findings,
            None => return Err(error),
        },
    };
    report(&findings, &args, printer)
}

async fn look(args: &Args) -> anyhow::Result<Findings> {
    match &args.subject {
        Subject::File(_) if args.data => {
            anyhow::bail!("--data needs an image: a bootstrap file says nothing of where its blobs are")
        }
        Subject::File(path) => Ok(check::check_bootstrap(&opened::open_file(path)?)),
        Subject::Image(location) => {
            let image = Arc::new(args.which.open(location).await?);
            Ok(check::check_image(image, args.data).await?)
        }
    }
}

fn report(findings: &Findings, args: &Args, printer: &Printer) -> anyhow::Result<u8> {
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
