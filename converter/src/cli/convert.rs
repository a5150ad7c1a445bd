//! `slipway convert SRC DST`.

use std::fs::File;
use std::io::Read;
use std::num::NonZero;
use std::path::{Path, PathBuf};

use anyhow::Context;
use converter::convert::{self, Options, Report};
use converter::opened::RafsImage;
use converter::prefetch::{Glob, Prefetch};
use converter::restore;
use proto::image::{ImageSource, ImageTarget, Location, Login, Platform};
use rafs::hints::{Hints, TEXT_LEN_MAX};

use super::DONE;
use super::packing::Packing;
use super::place::{self, Access};
use super::printer::{Notes, Printer, bytes};
use super::progress::Progress;
use super::unpack;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Image to convert.
    #[arg(value_name = "SRC")]
    source: Location,
    /// Where to write the converted image.
    #[arg(value_name = "DST")]
    target: Location,
    /// Image of an index to take, as OS/ARCH[/VARIANT] [default: linux and this machine's processor].
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    #[command(flatten)]
    packing: Packing,
    /// Files that nodes should fetch before they are asked for: a path with *, ? and ** for any number of folders. A
    /// folder stands for all that is in it. May be given several times, most urgent first.
    #[arg(long, value_name = "GLOB")]
    prefetch_pattern: Vec<Glob>,
    /// The same from a list: hints as `slipway hints show --json` prints them, or the ecosystem's prefetch files. Comes
    /// before patterns.
    #[arg(long, value_name = "FILE")]
    prefetch_file: Option<PathBuf>,
    /// Threads that hash and compress [default: one for each processor].
    #[arg(long, value_name = "N")]
    jobs: Option<NonZero<usize>>,
    #[command(flatten)]
    access: Access,
    /// User and password for the registry of SRC, instead of --creds.
    #[arg(long, value_name = "USER[:PASSWORD]")]
    src_creds: Option<Login>,
    /// User and password for the registry of DST, instead of --creds.
    #[arg(long, value_name = "USER[:PASSWORD]")]
    dest_creds: Option<Login>,
    /// How to show progress.
    #[arg(long, value_name = "HOW", default_value = "auto")]
    progress: Progress,
    /// Print a report as JSON.
    #[arg(long)]
    json: bool,
}

/// An option that would have no effect.
#[derive(Debug, thiserror::Error)]
#[error("{0} says how RAFS images are made, but SRC is one already and becomes a plain image")]
pub(crate) struct RafsOption(&'static str);

impl Args {
    pub(crate) fn notes(&self) -> Notes {
        self.progress.notes()
    }

    /// An option that was given and that says something of RAFS images alone.
    fn rafs_option(&self) -> Option<&'static str> {
        let of_packing = self.packing.rafs_option();
        let pattern = (!self.prefetch_pattern.is_empty()).then_some("--prefetch-pattern");
        let list = self.prefetch_file.as_ref().map(|_| "--prefetch-file");
        let jobs = self.jobs.map(|_| "--jobs");
        of_packing.or(pattern).or(list).or(jobs)
    }
}

pub(crate) async fn run(args: Args, printer: &Printer) -> anyhow::Result<u8> {
    let access = |creds: &Option<Login>| {
        let creds = creds.as_ref().or(args.access.creds.as_ref());
        args.access.options_with(creds)
    };
    let source = place::open(&args.source, &access(&args.src_creds)).await?;
    let is_rafs = restore::is_rafs(&source, args.platform.as_ref()).await;
    let is_rafs = is_rafs.map_err(|error| place::explain(error.into(), &args.source))?;
    let target = ImageTarget::create(&args.target, &access(&args.dest_creds)).await?;
    if is_rafs {
        return back(source, target, &args, printer).await;
    }
    let processors = std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    let options = Options {
        platform: args.platform,
        chunks: args.packing.chunks()?,
        prefetch: prefetch(args.prefetch_file.as_deref(), args.prefetch_pattern)?,
        layer_bootstraps: args.packing.layer_bootstraps(),
        jobs: args.jobs.unwrap_or(processors).get(),
    };
    let observer = args.progress.observer(*printer);
    let report = convert::convert(&source, &target, &options, observer).await?;
    target.finish().await?;
    match args.json {
        true => printer.json(&report)?,
        false => summarize(&report, &args.target, printer),
    }
    Ok(DONE)
}

fn prefetch(list: Option<&Path>, patterns: Vec<Glob>) -> anyhow::Result<Prefetch> {
    let mut hints = Hints::default();
    if let Some(path) = list {
        let doing = || format!("reading {}", path.display());
        let mut text = Vec::new();
        let file = File::open(path).with_context(doing)?;
        // One byte more than a list may have, so that what is too long is refused for it.
        file.take(TEXT_LEN_MAX as u64 + 1)
            .read_to_end(&mut text)
            .with_context(doing)?;
        hints = Hints::parse(&text).with_context(doing)?;
    }
    Ok(Prefetch { hints, patterns })
}

/// From RAFS to a plain image.
async fn back(
    source: ImageSource,
    target: ImageTarget,
    args: &Args,
    printer: &Printer,
) -> anyhow::Result<u8> {
    if let Some(option) = args.rafs_option() {
        return Err(RafsOption(option).into());
    }
    let compression = args.packing.layer()?;
    let image = RafsImage::open(source, &args.source.to_string(), args.platform.as_ref()).await?;
    let observer = args.progress.observer(*printer);
    let restored = restore::restore(image, &target, compression, observer).await?;
    target.finish().await?;
    unpack::warn(&restored.lost, printer);
    if args.json {
        printer.json(&restored)?;
        return Ok(DONE);
    }
    printer.note(&format!("{} {}", args.target, restored.manifest));
    printer.note(&format!(
        "from RAFS to one layer: {} paths, {} of contents, {} out",
        restored.path_count,
        bytes(restored.content_len),
        bytes(restored.layer_len)
    ));
    Ok(DONE)
}

fn summarize(report: &Report, target: &Location, printer: &Printer) {
    for path in &report.prefetch_missing {
        printer.note(&format!(
            "warning: nothing in the image is meant by {path:?}, so it is not fetched ahead"
        ));
    }
    let saved = report.repeated_len + report.shared_len;
    printer.note(&format!("{target} {}", report.manifest));
    printer.note(&format!(
        "{} layers, {} in, {} out, {} of contents stored once instead of again, {:.1} s",
        report.layers.len(),
        bytes(report.source_len),
        bytes(report.target_len),
        bytes(saved),
        report.seconds
    ));
}
