//! `slipway convert SRC DST`.

use std::num::NonZero;
use std::str::FromStr;

use converter::ChunkOptions;
use converter::convert::{self, Options, Report};
use converter::platform::Platform;
use proto::image::{ImageSource, ImageTarget, Location};
use rafs::blob::BlobOptions;
use rafs::{Compressor, Digester};

use super::DONE;
use super::place::Access;
use super::printer::{Printer, bytes};
use super::progress::Progress;

/// Zstd's own default: more costs time out of proportion.
const ZSTD_LEVEL_DEFAULT: i32 = 3;
/// Beyond 19 zstd needs much more memory to decompress.
const ZSTD_LEVELS: std::ops::RangeInclusive<i32> = 1..=19;
/// The format's range.
const CHUNK_SIZES: std::ops::RangeInclusive<u64> = 4096..=16 << 20;

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
    /// Compression of chunks: zstd, zstd:LEVEL with a level from 1 to 19, lz4 or none.
    #[arg(long, value_name = "COMPRESSOR", default_value = "zstd")]
    compressor: Compression,
    /// Bytes per chunk: a power of two from 4KiB to 16MiB.
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = chunk_size)]
    chunk_size: u32,
    /// Threads that hash and compress [default: one for each processor].
    #[arg(long, value_name = "N")]
    jobs: Option<NonZero<usize>>,
    #[command(flatten)]
    access: Access,
    /// How to show progress.
    #[arg(long, value_name = "HOW", default_value = "auto")]
    progress: Progress,
    /// Print a report as JSON.
    #[arg(long)]
    json: bool,
}

/// A compressor with its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Compression {
    compressor: Compressor,
    level: i32,
}

pub(crate) async fn run(args: Args, printer: &Printer) -> anyhow::Result<u8> {
    let access = args.access.options();
    let source = ImageSource::open(&args.source, &access).await?;
    let target = ImageTarget::create(&args.target, &access).await?;
    let processors = std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    let options = Options {
        platform: args.platform,
        chunks: ChunkOptions {
            blob: BlobOptions {
                chunk_size: args.chunk_size,
                compressor: args.compressor.compressor,
                digester: Digester::Sha256,
            },
            level: args.compressor.level,
        },
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

fn summarize(report: &Report, target: &Location, printer: &Printer) {
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

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, level) = text
            .split_once(':')
            .map_or((text, None), |(name, level)| (name, Some(level)));
        let compressor = match name {
            "zstd" => Compressor::Zstd,
            "lz4" => Compressor::Lz4Block,
            "none" => Compressor::None,
            _ => return Err("expected zstd[:LEVEL], lz4 or none".to_owned()),
        };
        let level = match (compressor, level) {
            (Compressor::Zstd, Some(level)) => level.parse().ok().filter(|level| ZSTD_LEVELS.contains(level)),
            (Compressor::Zstd, None) => Some(ZSTD_LEVEL_DEFAULT),
            (_, None) => Some(0),
            (_, Some(_)) => return Err(format!("{name} has no levels")),
        };
        let level = level.ok_or_else(|| "zstd's levels are 1 to 19".to_owned())?;
        Ok(Compression { compressor, level })
    }
}

/// `1048576`, `1024KiB`, `1MiB`.
fn chunk_size(text: &str) -> Result<u32, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" | "B" => 0,
        "KiB" | "K" | "k" => 10,
        "MiB" | "M" => 20,
        _ => return Err("expected bytes, KiB or MiB".to_owned()),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|size| size.is_power_of_two() && CHUNK_SIZES.contains(size))
        .and_then(|size| u32::try_from(size).ok())
        .ok_or_else(|| "expected a power of two from 4KiB to 16MiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_sizes() {
        assert_eq!(chunk_size("1MiB"), Ok(1 << 20));
        assert_eq!(chunk_size("4096"), Ok(4096));
        assert_eq!(chunk_size("16M"), Ok(16 << 20));
        for bad in [
            "0",
            "3MiB",
            "2048",
            "32MiB",
            "1GB",
            "",
            "MiB",
            "99999999999999999999",
            "-1",
        ] {
            assert!(chunk_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn compressors() {
        let zstd = |level| {
            Ok(Compression {
                compressor: Compressor::Zstd,
                level,
            })
        };
        assert_eq!("zstd".parse(), zstd(3));
        assert_eq!("zstd:19".parse(), zstd(19));
        for bad in ["zstd:0", "zstd:20", "zstd:", "lz4:1", "gzip", ""] {
            assert!(bad.parse::<Compression>().is_err(), "{bad}");
        }
    }
}
