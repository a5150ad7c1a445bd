//! `slipway unpack IMG DIR|TAR`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use converter::unpack::{Destination, Lost, unpack};
use proto::image::Location;

use super::DONE;
use super::place::Which;
use super::printer::{Notes, Printer, bytes};
use super::progress::Progress;

/// How compressed archives end, after `.tar`.
const COMPRESSIONS: [&str; 6] = [".gz", ".zst", ".xz", ".bz2", ".lz4", ".lzma"];
/// The same in one.
const COMPRESSED: [&str; 4] = [".tgz", ".txz", ".tbz2", ".tzst"];

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
    /// How to show progress.
    #[arg(long, value_name = "HOW", default_value = "auto")]
    progress: Progress,
}

/// A name of a kind of archive that is not written.
#[derive(Debug, thiserror::Error)]
#[error("{} names a compressed archive, and only plain tar archives are written", .0.display())]
pub(crate) struct Compressed(PathBuf);

impl Args {
    pub(crate) fn notes(&self) -> Notes {
        self.progress.notes()
    }

    /// What is left when unpacking ends early, if anything is.
    pub(crate) fn unfinished(&self) -> Option<&'static str> {
        match destination(&self.destination) {
            Ok(Destination::Folder(_)) => Some("what was unpacked so far is incomplete; remove it"),
            Ok(Destination::Archive(_)) => Some("no archive was written; run the same command again"),
            Ok(Destination::Stdout) | Err(_) => None,
        }
    }
}

pub(crate) async fn run(args: Args, printer: &Printer) -> anyhow::Result<u8> {
    let destination = destination(&args.destination)?;
    let image = args.which.open(&args.image).await?;
    let observer = args.progress.observer(*printer);
    let unpacked = unpack(Arc::new(image), &destination, observer).await?;
    warn(&unpacked.lost, printer);
    printer.note(&format!(
        "{} paths, {} of contents",
        unpacked.path_count,
        bytes(unpacked.content_len)
    ));
    Ok(DONE)
}

/// What a path means by its name, unless a folder has it already.
fn destination(path: &Path) -> Result<Destination, Compressed> {
    if path.as_os_str() == "-" {
        return Ok(Destination::Stdout);
    }
    let name = path.file_name().unwrap_or_default().to_ascii_lowercase();
    let name = name.to_string_lossy();
    let is_tar = |name: &str| name.ends_with(".tar");
    let stem = COMPRESSIONS.iter().find_map(|ending| name.strip_suffix(ending));
    match stem {
        _ if path.is_dir() => Ok(Destination::Folder(path.to_owned())),
        _ if is_tar(&name) => Ok(Destination::Archive(path.to_owned())),
        Some(stem) if is_tar(stem) => Err(Compressed(path.to_owned())),
        _ if COMPRESSED.iter().any(|ending| name.ends_with(ending)) => Err(Compressed(path.to_owned())),
        _ => Ok(Destination::Folder(path.to_owned())),
    }
}

/// Says what could not be kept.
pub(super) fn warn(lost: &Lost, printer: &Printer) {
    for (count, what) in [
        (
            lost.owner,
            "files have another owner than in the image: only root can give files away, and nobody to id 4294967295",
        ),
        (
            lost.xattrs,
            "files lack extended attributes that this user may not store, or this file system has no room for",
        ),
        (
            lost.times,
            "files have other times than in the image: this file system cannot say them",
        ),
        (lost.devices, "devices are missing: only root can make them"),
        (lost.sockets, "sockets are missing: tar archives cannot hold them"),
    ] {
        if count > 0 {
            printer.note(&format!("warning: {count} {what}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_to_write() {
        let kind = |name: &str| match destination(Path::new(name)) {
            Ok(Destination::Folder(_)) => "folder",
            Ok(Destination::Archive(_)) => "archive",
            Ok(Destination::Stdout) => "stdout",
            Err(_) => "refused",
        };
        for (name, expected) in [
            ("-", "stdout"),
            ("x", "folder"),
            ("x.d/y", "folder"),
            ("tar", "folder"),
            ("x.gz", "folder"),
            ("x.tar", "archive"),
            ("dir/X.TAR", "archive"),
            ("x.tar.gz", "refused"),
            ("x.tar.zst", "refused"),
            ("x.TGZ", "refused"),
        ] {
            assert_eq!(kind(name), expected, "{name}");
        }
    }
}
