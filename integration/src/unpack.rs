//! Independent unpackers: what an image holds, by programs that share no code with this project.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use serde_json::Value;

use crate::process;

/// Marks a name that a layer removes from the lower ones.
const WHITEOUT: &[u8] = b".wh.";
/// Marks a directory of which a layer shows only its own names.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Unpacks an image of a layout folder with umoci. The result's root is `dir`.
pub fn umoci(layout: &Path, tag: &str, dir: &Path) -> Result<()> {
    // umoci cuts its argument at the last colon, and tags here have one: it gets the image under a plain name.
    let plain = dir.with_extension("layout");
    let source = format!("oci:{}:{tag}", layout.display());
    let mut copy = Command::new("skopeo");
    copy.args([
        "copy",
        "--quiet",
        &source,
        &format!("oci:{}:image", plain.display()),
    ]);
    process::run(&mut copy)?;
    let mut umoci = Command::new("umoci");
    umoci.args(["raw", "unpack", "--image", &format!("{}:image", plain.display())]);
    process::run(umoci.arg(dir))?;
    std::fs::remove_dir_all(&plain).context("remove umoci's copy of the image")
}

/// Unpacks an image of a layout folder layer by layer with GNU tar, which keeps times to the nanosecond, and applies
/// whiteouts between layers. Directories that a layer changes without listing them keep their times, as in overlayfs.
/// Gives the directories that no layer lists: their times are not the image's.
pub fn gnu_tar(layout: &Path, tag: &str, dir: &Path) -> Result<BTreeSet<PathBuf>> {
    std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    let plain = dir.with_extension("tar");
    let mut ever_listed = BTreeSet::new();
    for layer in layers(layout, tag)? {
        decompress(&layer, &plain)?;
        let entries = entries(&plain)?;
        let times = directory_times(dir)?;
        apply_whiteouts(dir, &entries)?;
        clear_the_way(dir, &entries)?;
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(dir).arg("-xpf").arg(&plain);
        tar.args([
            "--numeric-owner",
            "--xattrs",
            "--xattrs-include=*",
            "--exclude=.wh.*",
            "--delay-directory-restore",
        ]);
        process::run(&mut tar)?;
        let listed: BTreeSet<_> = entries
            .into_iter()
            .filter(|entry| entry.is_dir)
            .map(|entry| entry.path)
            .collect();
        for (path, time) in times.iter().filter(|(path, _)| !listed.contains(*path)) {
            restore_time(&dir.join(path), *time)?;
        }
        ever_listed.extend(listed);
    }
    std::fs::remove_file(&plain).context("remove the last layer's tar")?;
    let all = directory_times(dir)?;
    Ok(all
        .into_keys()
        .filter(|path| !ever_listed.contains(path))
        .collect())
}

struct ListedEntry {
    path: PathBuf,
    is_dir: bool,
}

/// The layers' files, lowest first.
fn layers(layout: &Path, tag: &str) -> Result<Vec<PathBuf>> {
    let index = json(&layout.join("index.json"))?;
    let blob = |digest: &Value| -> Result<PathBuf> {
        let hex = digest.as_str().and_then(|digest| digest.strip_prefix("sha256:"));
        Ok(layout.join("blobs/sha256").join(hex.context("a sha256 digest")?))
    };
    let manifests = index["manifests"].as_array().context("the index has manifests")?;
    let named = |manifest: &&Value| manifest["annotations"]["org.opencontainers.image.ref.name"] == tag;
    let manifest = manifests
        .iter()
        .find(named)
        .with_context(|| format!("no image {tag} in the layout"))?;
    let manifest = json(&blob(&manifest["digest"])?)?;
    let layers = manifest["layers"].as_array().context("the manifest has layers")?;
    layers.iter().map(|layer| blob(&layer["digest"])).collect()
}

fn json(path: &Path) -> Result<Value> {
    let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("parse {}", path.display()))
}

/// Writes the plain tar of a layer, whatever it is compressed with (told from its first bytes).
fn decompress(layer: &Path, plain: &Path) -> Result<()> {
    let open = || File::open(layer).with_context(|| format!("open {}", layer.display()));
    let mut magic = Vec::new();
    open()?
        .take(4)
        .read_to_end(&mut magic)
        .context("read a layer's first bytes")?;
    let file = BufReader::new(open()?);
    let mut tar: Box<dyn Read> = match magic.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::with_buffer(file).context("start zstd")?),
        _ => Box::new(file),
    };
    let mut out = File::create(plain).with_context(|| format!("create {}", plain.display()))?;
    std::io::copy(&mut tar, &mut out).context("decompress a layer")?;
    Ok(())
}

fn entries(plain: &Path) -> Result<Vec<ListedEntry>> {
    let mut archive = tar::Archive::new(BufReader::new(File::open(plain).context("open a layer's tar")?));
    let entries = archive.entries().context("list a layer")?.map(|entry| {
        let entry = entry?;
        let path = Path::new(OsStr::from_bytes(&entry.path_bytes())).to_owned();
        let names = path
            .components()
            .filter(|part| matches!(part, Component::Normal(_)));
        Ok(ListedEntry {
            path: names.collect(),
            is_dir: entry.header().entry_type().is_dir(),
        })
    });
    entries.collect::<std::io::Result<_>>().context("list a layer")
}

fn apply_whiteouts(dir: &Path, entries: &[ListedEntry]) -> Result<()> {
    for entry in entries {
        let name = entry.path.file_name().unwrap_or_default().as_bytes();
        let parent = dir.join(entry.path.parent().unwrap_or(Path::new("")));
        if name == OPAQUE {
            for child in std::fs::read_dir(&parent).into_iter().flatten().flatten() {
                remove(&child.path())?;
            }
        } else if let Some(removed) = name.strip_prefix(WHITEOUT) {
            remove(&parent.join(OsStr::from_bytes(removed)))?;
        }
    }
    Ok(())
}

/// Removes what a layer replaces by another kind of file: tar would refuse to put a file in a directory's place.
fn clear_the_way(dir: &Path, entries: &[ListedEntry]) -> Result<()> {
    for entry in entries {
        let path = dir.join(&entry.path);
        if path
            .symlink_metadata()
            .is_ok_and(|there| there.is_dir() != entry.is_dir)
        {
            remove(&path)?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(_) => Ok(()),
    };
    removed.with_context(|| format!("remove {}", path.display()))
}

/// Modification times of all directories under `dir`, by path relative to it.
fn directory_times(dir: &Path) -> Result<BTreeMap<PathBuf, Timespec>> {
    let mut times = BTreeMap::new();
    let mut open = vec![PathBuf::new()];
    while let Some(path) = open.pop() {
        let full = dir.join(&path);
        let meta = full
            .symlink_metadata()
            .with_context(|| format!("look at {}", full.display()))?;
        let time = Timespec {
            tv_sec: meta.mtime(),
            tv_nsec: meta.mtime_nsec(),
        };
        for entry in std::fs::read_dir(&full).with_context(|| format!("list {}", full.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(path.join(entry.file_name()));
            }
        }
        times.insert(path, time);
    }
    Ok(times)
}

fn restore_time(path: &Path, mtime: Timespec) -> Result<()> {
    if !path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
        return Ok(());
    }
    let times = Timestamps {
        last_access: mtime,
        last_modification: mtime,
    };
    utimensat(CWD, path, &times, AtFlags::empty())
        .with_context(|| format!("set the time of {}", path.display()))
}
