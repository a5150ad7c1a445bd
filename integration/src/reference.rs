//! Images that another implementation wrote: the fixtures of `rafs` and `converter`, unpacked into files.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::image::layout::{Compression, Layout};
use crate::listing::{self, Listing};

/// Tag of the image that [`make`] writes.
pub const TAG: &str = "reference:1";

/// An image as files: its bootstrap, and a folder of blobs named by their ids.
pub struct Files {
    /// The bootstrap.
    pub bootstrap: PathBuf,
    /// The folder of blobs.
    pub blobs: PathBuf,
}

/// Unpacks an image into a folder. `name` is that of its folder in the fixtures.
pub fn unpack(name: &str, dir: &Path) -> Result<Files> {
    let files = Files {
        bootstrap: dir.join("bootstrap"),
        blobs: dir.join("blobs"),
    };
    std::fs::create_dir_all(&files.blobs).context("create a folder of blobs")?;
    for entry in std::fs::read_dir(images().join(name)).with_context(|| format!("list {name}"))? {
        let path = entry?.path();
        let mut bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        if path.extension().is_some_and(|extension| extension == "zst") {
            bytes = zstd::decode_all(bytes.as_slice()).context("unpack a fixture")?;
        }
        let stem = path.file_stem().context("a fixture has a name")?;
        let target = match stem == "bootstrap" {
            true => files.bootstrap.clone(),
            false => files.blobs.join(stem),
        };
        std::fs::write(&target, bytes).with_context(|| format!("write {}", target.display()))?;
    }
    Ok(files)
}

/// What the other implementation shows of its images.
pub fn expected() -> Result<Listing> {
    let lines = std::fs::read_to_string(images().join("expected.jsonl"));
    listing::parse(&lines.context("read the listing of the reference images")?)
}

/// Writes the original of the images, as [`TAG`], into a layout folder.
pub fn make(dir: &Path) -> Result<()> {
    let mut layout = Layout::create(dir)?;
    let mut layers = Vec::new();
    for name in ["layer1.tar.gz", "layer2.tar.gz"] {
        let file = std::fs::File::open(originals().join(name)).with_context(|| format!("open {name}"))?;
        let mut tar = flate2::read::GzDecoder::new(file);
        layers.push(layout.layer_from_tar(Compression::Gzip, &mut tar)?);
    }
    layout.image(TAG, &layers, &[])
}

/// What the layers of the original say. The other implementation's images differ from it in a few attributes.
pub fn truth() -> Result<Listing> {
    let lines = std::fs::read_to_string(originals().join("truth.jsonl"));
    listing::parse(&lines.context("read the listing of the original")?)
}

fn images() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../rafs/tests/fixtures")
}

fn originals() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../converter/tests/fixtures")
}
