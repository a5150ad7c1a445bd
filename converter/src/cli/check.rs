//! `slipway check IMG|FILE`.

use anyhow::Context;
use converter::check::{self, Findings};
use converter::{Error, against, opened};
use proto::image::{ImageSource, Location};

use super::place::{self, Subject, Which};
use super::printer::{Printer, counted};
use super::{DONE, NEGATIVE};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// RAFS image or bootstrap file.
    #[arg(value_name = "IMG|FILE")]
    subject: Subject,
    /// Read every blob whole: verify its digest, all chunks, and what lies between and behind them.
    #[arg(long)]
    data: bool,
    /// Compare files, and contents by the digests recorded for them, with the image that this one was made of. Whether
    /// what is stored has these digests, --data tells.
    #[arg(long, value_name = "SRC")]
    against: Option<Location>,
    #[command(flatten)]
    which: Which,
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
}

/// What failed was the comparison with this image.
#[derive(Debug, thiserror::Error)]
#[error("comparing with {0}")]
struct Compared(String);

pub(crate) async fn run(args: Args, printer: &Printer) -> anyhow::Result<u8> {
    let findings = match look(&args).await {
        Ok(findings) => findings,
        // What is there and is broken is an answer; what cannot be looked at is an error.
        Err(error) => match damage(&error) {
            Some(findings) => findings,
            None => return Err(error),
        },
    };
    report(&findings, &args, printer)
}

/// Damage of the image itself is an answer; damage of what it is compared with is none.
fn damage(error: &anyhow::Error) -> Option<Findings> {
    match error.downcast_ref::<Compared>() {
        Some(_) => None,
        None => error.downcast_ref().and_then(check::damage),
    }
}

async fn look(args: &Args) -> anyhow::Result<Findings> {
    let mut findings = look_inside(args).await?;
    if let Some(original) = &args.against {
        let image = match args.which.open_bootstrap(&args.subject).await {
            Ok(image) => image,
            // What keeps it from being opened is found already; there is nothing to compare.
            Err(error) if damage(&error).is_some() => return Ok(findings),
            Err(error) => return Err(error),
        };
        let source = ImageSource::open(original, &args.which.access.options()).await?;
        let differences = against::compare(&image, &source, args.which.platform.as_ref()).await;
        findings.differences = Some(differences.with_context(|| Compared(original.to_string()))?);
    }
    Ok(findings)
}

async fn look_inside(args: &Args) -> anyhow::Result<Findings> {
    match &args.subject {
        Subject::File(_) if args.data => {
            anyhow::bail!("--data needs an image: a bootstrap file says nothing of where its blobs are")
        }
        Subject::File(path) => {
            let bytes = opened::read_file(path)?;
            let findings = check::check_bootstrap(&bytes);
            Ok(findings.map_err(|source| Error::Bootstrap {
                place: path.display().to_string(),
                source,
            })?)
        }
        Subject::Image(location) => {
            let error = match args.which.fetch(location).await {
                Ok(parts) => return Ok(check::check_image(parts, args.data).await?),
                Err(error) => error,
            };
            let Some(mut findings) = damage(&error) else {
                return Err(error);
            };
            // The bootstrap layer is damaged; that says nothing of the others.
            let source = place::open(location, &args.which.access.options()).await?;
            let faults = check::check_layers(&source, args.which.platform.as_ref(), args.data).await?;
            findings.faults.extend(faults);
            Ok(findings)
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
        let differences = findings.differences.iter();
        let differences: String = differences
            .flat_map(|differences| &differences.first)
            .map(|difference| format!("{}: {difference}\n", args.subject))
            .collect();
        printer.data(&(faults + &differences))?;
    }
    let difference_count = findings.differences.as_ref().map_or(0, |found| found.count);
    if !findings.faults.is_empty() || difference_count > 0 {
        let against = match &args.against {
            Some(original) => format!(", {} from {original}", counted(difference_count, "difference")),
            None => String::new(),
        };
        let faults = counted(findings.faults.len() as u64, "fault");
        printer.note(&format!("{}: {faults}{against}", args.subject));
        return Ok(NEGATIVE);
    }
    let inodes = counted(findings.inode_count, "inode");
    let blobs = counted(findings.blob_count, "blob");
    let chunks = match args.data {
        true => format!(", {} verified", counted(findings.chunk_count, "chunk")),
        false => String::new(),
    };
    let same = match (&args.against, &findings.differences) {
        (Some(original), Some(found)) => {
            let paths = counted(found.path_count, "path");
            let by = if args.data { "" } else { " by recorded digests" };
            format!(", {paths} equal to {original}{by}")
        }
        _ => String::new(),
    };
    printer.note(&format!(
        "{}: no fault found; {inodes}, {blobs}{chunks}{same}",
        args.subject
    ));
    Ok(DONE)
}
