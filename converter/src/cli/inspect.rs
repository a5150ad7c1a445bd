//! `slipway inspect IMG|FILE [PATH...]`.

use std::ffi::OsString;
use std::fmt::Write;

use converter::inspect::{HintsSummary, PathView, Summary, look_up, summarize};
use converter::opened;
use rafs::hints::Hints;

use super::DONE;
use super::place::{Subject, Which};
use super::printer::{Printer, bytes};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// RAFS image or bootstrap file.
    #[arg(value_name = "IMG|FILE")]
    subject: Subject,
    /// Show inodes and contents of these paths instead; symbolic links are not followed.
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
    /// Print every byte of the bootstrap, structure by structure. Works on damaged files too.
    #[arg(long, conflicts_with_all = ["paths", "json"])]
    dump: bool,
    #[command(flatten)]
    which: Which,
    /// Print the summary, or what is known of each path, as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, printer: &Printer) -> anyhow::Result<u8> {
    if args.dump {
        return dump(&args, printer).await;
    }
    let (image, hints) = match &args.subject {
        Subject::File(path) => (opened::open_file(path)?, None),
        Subject::Image(location) => {
            let parts = args.which.fetch(location).await?;
            let hints = match args.paths.is_empty() {
                true => parts.hints().await?,
                false => None,
            };
            (parts.open()?.bootstrap, hints)
        }
    };
    if args.paths.is_empty() {
        let mut summary = summarize(&image, &args.subject.to_string())?;
        summary.hints = hints.and_then(|text| readable(&text, printer));
        match args.json {
            true => printer.json(&summary)?,
            false => printer.data(&text(&summary)?)?,
        }
        return Ok(DONE);
    }
    let views: Result<Vec<PathView>, _> = args.paths.iter().map(|path| look_up(&image, path)).collect();
    match args.json {
        true => printer.json(&views?)?,
        false => printer.data(&paths_text(&views?)?)?,
    }
    Ok(DONE)
}

/// Hints that cannot be read are none: nothing depends on them.
fn readable(text: &[u8], printer: &Printer) -> Option<HintsSummary> {
    match Hints::parse(text) {
        Ok(hints) => Some(HintsSummary::from(&hints)),
        Err(error) => {
            printer.note(&format!("warning: the image's hints cannot be read: {error}"));
            None
        }
    }
}

async fn dump(args: &Args, printer: &Printer) -> anyhow::Result<u8> {
    let mut text = String::new();
    match &args.subject {
        // As bytes: what cannot be opened can still be dumped.
        Subject::File(path) => {
            let bytes = opened::read_any(path)?;
            rafs::image::dump(&bytes, &mut text)?;
        }
        Subject::Image(location) => {
            let image = args.which.open(location).await?;
            rafs::image::dump(image.bootstrap.bytes(), &mut text)?;
        }
    }
    printer.data(&text)?;
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
    writeln!(
        out,
        "bootstrap  {}, root inode {}, {} names; flags {}",
        bytes(summary.bootstrap_len),
        summary.root_nid,
        summary.inode_count,
        summary.flags.join(" ")
    )?;
    for table in &summary.tables {
        let (name, offset, len) = (table.name, table.offset, table.len);
        writeln!(out, "  {name:<8} {len} bytes at {offset}")?;
    }
    writeln!(out, "prefetch   {} entries", summary.prefetch.len())?;
    for path in &summary.prefetch {
        writeln!(out, "  {path}")?;
    }
    if let Some(hints) = &summary.hints {
        let (files, ranges, len) = (hints.file_count, hints.range_count, bytes(hints.range_len));
        writeln!(
            out,
            "hints      {files} files and directories, {ranges} ranges of {len}"
        )?;
    }
    writeln!(out, "blobs      {}", summary.blobs.len())?;
    for blob in &summary.blobs {
        let (stored, content) = (bytes(blob.compressed_len), bytes(blob.uncompressed_len));
        let (compressor, digester) = (blob.compressor, blob.digester);
        writeln!(
            out,
            "  {} {stored} for {content} in {} chunks, {compressor}, {digester}",
            blob.id, blob.chunk_count
        )?;
        write!(
            out,
            "    used: {} chunks of {}",
            blob.used_chunk_count,
            bytes(blob.used_content_len)
        )?;
        if let Some(ratio) = blob.stored_per_mille {
            write!(out, ", stored in {}.{}%", ratio / 10, ratio % 10)?;
        }
        writeln!(out, "; features {}", blob.features.join(" "))?;
    }
    Ok(out)
}

fn paths_text(views: &[PathView]) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    for view in views {
        writeln!(out, "{}", printable(&view.path))?;
        writeln!(
            out,
            "  inode {}, mode {}, {} links",
            view.nid, view.mode, view.nlink
        )?;
        writeln!(out, "  owner {}:{}, {} bytes", view.uid, view.gid, view.size)?;
        writeln!(out, "  modified {} s + {} ns", view.mtime, view.mtime_nanos)?;
        if let Some((major, minor)) = view.device {
            writeln!(out, "  device {major}, {minor}")?;
        }
        if let Some(target) = &view.target {
            writeln!(out, "  target {target}")?;
        }
        for (name, value) in &view.xattrs {
            writeln!(out, "  {name} = \"{value}\"")?;
        }
        for extent in &view.extents {
            let stored = match extent.codec {
                "shared" => "shared".to_owned(),
                codec => format!("{codec}, {} bytes at {}", extent.stored_len, extent.stored_offset),
            };
            writeln!(
                out,
                "  {} + {}: blob {} chunk {}, {stored}, uncompressed at {}, {}",
                extent.offset,
                extent.len,
                extent.blob,
                extent.chunk,
                extent.uncompressed_offset,
                extent.digest
            )?;
        }
    }
    Ok(out)
}

/// Control characters escaped, so that a path cannot take over a terminal.
fn printable(text: &str) -> String {
    match text.chars().any(char::is_control) {
        true => text.escape_default().to_string(),
        false => text.to_owned(),
    }
}
