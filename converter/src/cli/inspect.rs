//! `slipway inspect IMG|FILE`.

use std::fmt::Write;

use converter::inspect::{Summary, summarize};

use super::DONE;
use super::place::{Subject, Which};
use super::printer::{Printer, bytes};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// RAFS image or bootstrap file.
    #[arg(value_name = "IMG|FILE")]
    subject: Subject,
    #[command(flatten)]
    which: Which,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, printer: &Printer) -> anyhow::Result<u8> {
    let image = args.which.open_bootstrap(&args.subject).await?;
    let summary = summarize(&image, &args.subject.to_string())?;
    match args.json {
        true => printer.json(&summary)?,
        false => printer.data(&text(&summary)?)?,
    }
    Ok(DONE)
}

fn text(summary: &Summary) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    let files = &summary.files;
    writeln!(
        out,
        "format     RAFS v6, chunks of {}",
        indicatif::BinaryBytes(summary.chunk_size.into())
    )?;
    writeln!(
        out,
        "files      {} regular, {} directories, {} symbolic links, {} special, {} extra hard links",
        files.regular, files.directory, files.symlink, files.special, files.extra_names
    )?;
    writeln!(out, "contents   {}", bytes(summary.content_len))?;
    writeln!(out, "prefetch   {} entries", summary.prefetch_count)?;
    writeln!(out, "blobs      {}", summary.blobs.len())?;
    for blob in &summary.blobs {
        let (stored, content) = (bytes(blob.compressed_len), bytes(blob.uncompressed_len));
        let (compressor, digester) = (blob.compressor, blob.digester);
        writeln!(
            out,
            "  {} {stored} for {content} in {} chunks, {compressor}, {digester}",
            blob.id, blob.chunk_count
        )?;
    }
    Ok(out)
}
