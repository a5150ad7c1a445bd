//! Where costly images are kept between runs: outside of the clone, one folder per recipe.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};

/// Gives the folder of an image, making it first when it is absent. `recipe` is everything that decides what the image
/// holds: another recipe is another folder. Processes that want the same image wait for the one that makes it.
pub fn image(name: &str, recipe: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let root = root()?;
    std::fs::create_dir_all(&root).with_context(|| format!("create {}", root.display()))?;
    let key = hex::encode(&Sha256::digest(recipe.as_bytes())[..8]);
    let kept = root.join(format!("{name}-{key}"));
    let lock = File::create(root.join(format!("{name}.lock"))).context("create a lock")?;
    flock(&lock, FlockOperation::LockExclusive).context("lock the image")?;
    if kept.join("index.json").is_file() {
        return Ok(kept);
    }
    let work = tempfile::Builder::new()
        .prefix(".making-")
        .tempdir_in(&root)
        .context("create a folder")?;
    let image = work.path().join("image");
    make(&image)?;
    std::fs::rename(&image, &kept).with_context(|| format!("keep the image as {}", kept.display()))?;
    Ok(kept)
}

/// `SLIPWAY_TEST_CACHE`, else `slipway` in the user's cache folder.
fn root() -> Result<PathBuf> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let root = set("SLIPWAY_TEST_CACHE")
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("slipway")))
        .or_else(|| Some(set("HOME")?.join(".cache/slipway")));
    root.context("no folder to keep test images in\nhint: set SLIPWAY_TEST_CACHE")
}
