//! `slipway unpack IMG DIR|TAR`.

use std::path::PathBuf;
use std::sync::Arc;

use converter::unpack::{Destination, Lost, unpack};
use proto::image::Location;

use super::DONE;
use super::place::Which;
use super::printer::{Printer, bytes};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// RAFS image.
    #[arg(value_name = "IMG")]
    image: Location,
    /// Empty or new folder; or a name that ends in .tar; or - for a tar stream on standard output.
    #[arg(value_name = "DIR|TAR")]
    destination: PathBuf,
    #[command(flatten)]
    which: Which,
}

pub(crate) async fn run(args: Args, printer: &Printer) -> anyhow::Result<u8> {
    let destination = destination(args.destination);
    let image = args.which.open(&args.image).await?;
    let unpacked = unpack(Arc::new(image), &destination).await?;
    warn(&unpacked.lost, printer);
    printer.note(&format!(
        "{} paths, {} of contents",
        unpacked.path_count,
        bytes(unpacked.content_len)
    ));
    Ok(DONE)
}

fn destination(path: PathBuf) -> Destination {
    match path.to_str() {
        Some("-") => Destination::Stdout,
        _ if path.extension().is_some_and(|extension| extension == "tar") && !path.is_dir() => {
            Destination::Archive(path)
        }
        _ => Destination::Folder(path),
    }
}

/// Says what could not be kept.
pub(super) fn warn(lost: &Lost, printer: &Printer) {
    for (count, what) in [
        (
            lost.owner,
            "files have another owner than in the image: only root can give files away",
        ),
        (
            lost.xattrs,
            "files lack extended attributes that this user or file system may not store",
        ),
        (lost.devices, "devices are missing: only root can make them"),
        (lost.sockets, "sockets are missing: tar archives cannot hold them"),
    ] {
        if count > 0 {
            printer.note(&format!("warning: {count} {what}"));
        }
    }
}
