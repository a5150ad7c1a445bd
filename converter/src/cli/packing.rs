//! How chunks are made: options of commands that write blobs.

use std::str::FromStr;

use clap::ValueEnum;
use converter::restore::LayerCompression;
use converter::{ChunkOptions, Layout};
use rafs::blob::BlobOptions;
use rafs::{Compressor, Digester};

/// Zstd's own default: more costs time out of proportion.
const ZSTD_LEVEL_DEFAULT: i32 = 3;
/// Beyond 19 zstd needs much more memory to decompress.
const ZSTD_LEVELS: std::ops::RangeInclusive<i32> = 1..=19;
/// The format's range.
const CHUNK_SIZES: std::ops::RangeInclusive<u64> = 4096..=16 << 20;
/// What the ecosystem's tools take, too: few enough chunks to list, small enough to wait for one.
const CHUNK_SIZE_DEFAULT: u32 = 1 << 20;
/// Smaller batches would hold a handful of the files that they are for.
const BATCH_SIZES: std::ops::RangeInclusive<u64> = 64 << 10..=16 << 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Packing {
    /// Compression of chunks: zstd, zstd:LEVEL with a level from 1 to 19, lz4 or none [default: zstd, none with
    /// --flat].
    #[arg(long, value_name = "COMPRESSOR")]
    compressor: Option<Compression>,
    /// Bytes per chunk: a power of two from 4KiB to 16MiB [default: 1MiB].
    #[arg(long, value_name = "SIZE", value_parser = chunk_size)]
    chunk_size: Option<u32>,
    /// Digests of chunks [default: sha256].
    #[arg(long, value_name = "DIGESTER")]
    digester: Option<DigesterName>,
    /// Compress files smaller than half of SIZE together, SIZE bytes at a time: a power of two from 64KiB to the
    /// chunk size, or 0 to compress every file alone [default: 0].
    #[arg(long, value_name = "SIZE", value_parser = batch_size)]
    batch_size: Option<u32>,
    /// Store chunks uncompressed and aligned, so that blobs can be used as block devices.
    #[arg(long)]
    flat: bool,
    /// Put a bootstrap of the layer alone into each blob, for tools that merge or unpack single layers.
    #[arg(long)]
    layer_bootstraps: bool,
}

/// A digest function by the name that the ecosystem's tools use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DigesterName {
    Sha256,
    Blake3,
}

/// A compressor with its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Compression {
    compressor: Compressor,
    level: i32,
}

impl Packing {
    /// The choices, if they go together.
    pub(crate) fn chunks(&self) -> anyhow::Result<ChunkOptions> {
        let none = Compression {
            compressor: Compressor::None,
            level: 0,
        };
        let zstd = Compression {
            compressor: Compressor::Zstd,
            level: ZSTD_LEVEL_DEFAULT,
        };
        let compression = self.compressor.unwrap_or(if self.flat { none } else { zstd });
        let is_plain = compression.compressor == Compressor::None;
        let chunk_size = self.chunk_size.unwrap_or(CHUNK_SIZE_DEFAULT);
        let layout = match (self.flat, self.batch_size.unwrap_or(0)) {
            (true, 0) if is_plain => Layout::Flat,
            (true, 0) => anyhow::bail!("--flat needs --compressor none"),
            (true, _) => anyhow::bail!("--batch-size cannot be used with --flat: batches are compressed"),
            (false, 0) => Layout::Single,
            (false, _) if is_plain => anyhow::bail!("--batch-size needs a compressor"),
            (false, size) if size > chunk_size => anyhow::bail!(
                "--batch-size is {size} bytes, which is more than --chunk-size with {chunk_size}"
            ),
            (false, size) => Layout::Batched { size },
        };
        Ok(ChunkOptions {
            blob: BlobOptions {
                chunk_size,
                compressor: compression.compressor,
                digester: match self.digester {
                    None | Some(DigesterName::Sha256) => Digester::Sha256,
                    Some(DigesterName::Blake3) => Digester::Blake3,
                },
            },
            level: compression.level,
            layout,
        })
    }
}

impl Packing {
    /// Whether each blob gets a bootstrap of its own.
    pub(crate) fn layer_bootstraps(&self) -> bool {
        self.layer_bootstraps
    }

    /// An option that was given and that says something of RAFS images alone.
    pub(crate) fn rafs_option(&self) -> Option<&'static str> {
        [
            (self.chunk_size.is_some(), "--chunk-size"),
            (self.digester.is_some(), "--digester"),
            (self.batch_size.is_some(), "--batch-size"),
            (self.flat, "--flat"),
            (self.layer_bootstraps, "--layer-bootstraps"),
        ]
        .into_iter()
        .find_map(|(is_given, option)| is_given.then_some(option))
    }

    /// The compression of a plain image's layer. Gzip if nothing was chosen: every runtime reads it.
    pub(crate) fn layer(&self) -> anyhow::Result<LayerCompression> {
        match self.compressor.map(|chosen| (chosen.compressor, chosen.level)) {
            None => Ok(LayerCompression::Gzip),
            Some((Compressor::Zstd, level)) => Ok(LayerCompression::Zstd(level)),
            Some((Compressor::None, _)) => Ok(LayerCompression::None),
            Some(_) => anyhow::bail!(
                "SRC is a RAFS image, and layers of plain images cannot be compressed with lz4; leave --compressor out \
                 for gzip, or use zstd or none"
            ),
        }
    }
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

fn chunk_size(text: &str) -> Result<u32, String> {
    power_of_two(text)?
        .filter(|size| CHUNK_SIZES.contains(size))
        .and_then(|size| u32::try_from(size).ok())
        .ok_or_else(|| "expected a power of two from 4KiB to 16MiB".to_owned())
}

fn batch_size(text: &str) -> Result<u32, String> {
    if text == "0" {
        return Ok(0);
    }
    power_of_two(text)?
        .filter(|size| BATCH_SIZES.contains(size))
        .and_then(|size| u32::try_from(size).ok())
        .ok_or_else(|| "expected 0 or a power of two from 64KiB to 16MiB".to_owned())
}

/// `1048576`, `1024KiB`, `1MiB`; `None` for another number.
fn power_of_two(text: &str) -> Result<Option<u64>, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" | "B" => 0,
        "KiB" | "K" | "k" => 10,
        "MiB" | "M" => 20,
        _ => return Err("expected bytes, KiB or MiB".to_owned()),
    };
    let number = number.parse::<u64>().ok();
    let size = number.and_then(|number| number.checked_mul(1 << shift));
    Ok(size.filter(|size| size.is_power_of_two()))
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

    #[test]
    fn batch_sizes() {
        assert_eq!(batch_size("0"), Ok(0));
        assert_eq!(batch_size("64KiB"), Ok(64 << 10));
        assert_eq!(batch_size("16M"), Ok(16 << 20));
        for bad in ["32KiB", "96KiB", "32MiB", "-1", ""] {
            assert!(batch_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn choices_go_together_or_are_refused() {
        let packing = |compressor: Option<&str>, batch_size, flat| Packing {
            compressor: compressor.map(|text| text.parse().unwrap()),
            chunk_size: None,
            digester: Some(DigesterName::Blake3),
            batch_size,
            flat,
            layer_bootstraps: false,
        };
        let layout = |compressor, batch_size, flat| {
            let chunks = packing(compressor, batch_size, flat).chunks().ok()?;
            assert_eq!(chunks.blob.digester, Digester::Blake3);
            Some((chunks.blob.compressor, chunks.layout))
        };
        let flat = Some((Compressor::None, Layout::Flat));
        let single = Some((Compressor::Zstd, Layout::Single));
        assert_eq!(layout(None, None, false), single);
        assert_eq!(layout(None, Some(0), false), single);
        assert_eq!(layout(None, None, true), flat);
        assert_eq!(layout(Some("none"), Some(0), true), flat);
        let size = 1 << 20;
        let batched = Layout::Batched { size };
        assert_eq!(
            layout(Some("lz4"), Some(size), false),
            Some((Compressor::Lz4Block, batched))
        );
        assert_eq!(layout(Some("zstd"), None, true), None);
        assert_eq!(layout(None, Some(size), true), None);
        assert_eq!(layout(Some("none"), Some(size), false), None);
        assert_eq!(layout(None, Some(size << 1), false), None);
    }
}
