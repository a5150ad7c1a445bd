//! Writes the seeds of every fuzz target: one folder a target under the folder that is named.

use std::path::Path;

use anyhow::{Context, Result};
use integration::fuzz::TARGETS;

fn main() -> Result<()> {
    let dir = std::env::args_os()
        .nth(1)
        .context("usage: fuzz_seeds DIR; hint: integration/fuzz/corpus")?;
    for target in TARGETS {
        let dir = Path::new(&dir).join(target.name);
        std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        for (number, seed) in (target.seeds)().into_iter().enumerate() {
            let path = dir.join(format!("seed-{number}"));
            std::fs::write(&path, seed).with_context(|| format!("write {}", path.display()))?;
        }
    }
    Ok(())
}
