//! The kernel as oracle for the writer: a bootstrap is an EROFS image, whose devices are the blobs' contents.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rafs::blob::Units;
use rustix::mount::{MountFlags, UnmountFlags};
use serde_json::Value;

/// Bytes per block of the images, the kernel's smallest device.
const BLOCK_LEN: u64 = 4096;
/// Where a bootstrap layer keeps the bootstrap.
const BOOTSTRAP_NAME: &str = "image/image.boot";

/// A kernel mount of a converted image. Dropping it unmounts.
pub struct ErofsMount {
    point: PathBuf,
}

impl ErofsMount {
    /// Mounts the converted image `tag` of a layout folder at `dir/mnt`, with what it needs in `dir`.
    pub fn start(layout: &Path, tag: &str, dir: &Path) -> Result<Self> {
        Self::of_files(bootstrap_of(layout, tag)?, &layout.join("blobs/sha256"), dir)
    }

    /// Mounts the image of a bootstrap at `dir/mnt`, whose blobs lie in a folder, named by their ids.
    pub fn of_files(bootstrap: Vec<u8>, blobs: &Path, dir: &Path) -> Result<Self> {
        let point = dir.join("mnt");
        std::fs::create_dir_all(&point).with_context(|| format!("create {}", point.display()))?;
        let primary = dir.join("bootstrap");
        std::fs::write(&primary, &bootstrap).context("write the bootstrap")?;
        let image = rafs::Image::open(bootstrap).context("read the bootstrap")?;
        let mut options = Vec::new();
        for index in 0..image.blobs().len() {
            let device = dir.join(format!("device-{index}"));
            write_device(&image, index, blobs, &device)?;
            options.push(format!("device={}", device.display()));
        }
        // mount(8) would put a loop device in between.
        let options = CString::new(options.join(",")).context("paths without NUL")?;
        let flags = MountFlags::RDONLY | MountFlags::NODEV;
        rustix::mount::mount(&primary, &point, "erofs", flags, Some(options.as_c_str()))
            .context("mount the bootstrap as EROFS")?;
        Ok(ErofsMount { point })
    }

    /// The image's root.
    pub fn point(&self) -> &Path {
        &self.point
    }
}

impl Drop for ErofsMount {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.point, UnmountFlags::DETACH);
    }
}

/// Decodes all chunks of a blob to where the kernel looks for them.
fn write_device(image: &rafs::Image<Vec<u8>>, index: usize, blobs: &Path, device: &Path) -> Result<()> {
    let info = &image.blobs()[index];
    let stored = open(blobs, &info.id)?;
    let out = File::create(device).with_context(|| format!("create {}", device.display()))?;
    out.set_len(info.uncompressed_size.next_multiple_of(BLOCK_LEN))
        .context("size a device")?;
    let units = if info.has_shared_units() {
        let (meta_blob, range) = info.meta_range();
        let mut meta = vec![0; usize::try_from(range.end - range.start)?];
        open(blobs, meta_blob)?
            .read_exact_at(&mut meta, range.start)
            .context("read chunk infos")?;
        Units::read(info, &meta)?
    } else {
        Units::single(info)
    };
    for chunk in image.chunks(rafs::BlobIndex(u16::try_from(index)?)) {
        let chunk = chunk.context("find a chunk")?;
        let piece = units.piece(&chunk).context("find a chunk's unit")?;
        let mut packed = vec![0; piece.unit.stored.len as usize];
        stored
            .read_exact_at(&mut packed, piece.unit.stored.offset)
            .context("read a unit")?;
        let mut expanded = vec![0; piece.unit.len as usize];
        units
            .expand(&piece.unit, &packed, &mut expanded)
            .context("expand a unit")?;
        let content = piece.cut(&expanded).context("cut a chunk out")?;
        rafs::chunk::verify(&chunk, info.digester, content).context("verify a chunk")?;
        out.write_all_at(content, chunk.uncompressed.offset)
            .context("write a chunk")?;
    }
    Ok(())
}

fn open(blobs: &Path, id: &str) -> Result<File> {
    let path = blobs.join(id);
    File::open(&path).with_context(|| format!("open {}", path.display()))
}

/// The bootstrap of a converted image: in the last layer of its manifest, as a file in a compressed tar.
pub fn bootstrap_of(layout: &Path, tag: &str) -> Result<Vec<u8>> {
    let document = |path: &Path| -> Result<Value> {
        let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("parse {}", path.display()))
    };
    let blob = |descriptor: &Value| -> Result<PathBuf> {
        let digest = descriptor["digest"].as_str().context("a digest")?;
        Ok(layout
            .join("blobs/sha256")
            .join(digest.trim_start_matches("sha256:")))
    };
    let index = document(&layout.join("index.json"))?;
    let manifests = index["manifests"].as_array().context("the index has manifests")?;
    let named = |entry: &&Value| entry["annotations"]["org.opencontainers.image.ref.name"] == tag;
    let manifest = manifests
        .iter()
        .find(named)
        .with_context(|| format!("no image {tag}"))?;
    let manifest = document(&blob(manifest)?)?;
    let layers = manifest["layers"].as_array().context("the manifest has layers")?;
    let last = layers.last().context("the manifest has a layer")?;
    ensure!(
        last["annotations"]["containerd.io/snapshot/nydus-bootstrap"] == "true",
        "the last layer is no bootstrap: {last}"
    );
    let tar = flate2::read::MultiGzDecoder::new(File::open(blob(last)?).context("open the bootstrap layer")?);
    for entry in tar::Archive::new(tar)
        .entries()
        .context("list the bootstrap layer")?
    {
        let mut entry = entry.context("list the bootstrap layer")?;
        if entry.path_bytes().as_ref() == Path::new(BOOTSTRAP_NAME).as_os_str().as_bytes() {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).context("read the bootstrap")?;
            return Ok(bytes);
        }
    }
    anyhow::bail!("no {BOOTSTRAP_NAME} in the bootstrap layer")
}
