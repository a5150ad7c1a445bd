//! One image of one large file, mounted by this process, at the other end of a line.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use fuse::{Filler, ImageStatus};
use tempfile::TempDir;

use super::line::Line;
use crate::image::single::{FILE_NAME, Single};
use crate::served::{self, ID, ServedImage, Terms};

/// The mounted image, with an empty cache. Dropping it unmounts.
pub struct Stage {
    served: ServedImage,
    dir: TempDir,
}

impl Stage {
    /// Mounts.
    pub fn start(sample: &Single, line: Arc<Line>) -> Result<Self> {
        let dir = tempfile::tempdir().context("create a folder")?;
        let bootstrap = dir.path().join("bootstrap");
        std::fs::write(&bootstrap, &sample.bootstrap).context("write the bootstrap")?;
        let terms = Terms {
            threads: 4,
            ..Terms::default()
        };
        let served = ServedImage::alone_from(&terms, &bootstrap, line, dir.path())?;
        Ok(Stage { served, dir })
    }

    /// Begins to fill.
    pub fn fill(&self) {
        // The filling is timed on the runtime's clock.
        let _inside = self.served.runtime().enter();
        let filler = Filler::new(None, 0, served::cache_dir(self.dir.path()));
        self.served.server().fill(ID, &filler);
    }

    /// The file.
    pub fn file(&self) -> PathBuf {
        self.served.point().join(FILE_NAME)
    }

    /// The image's numbers.
    pub fn status(&self) -> ImageStatus {
        self.served.status()
    }

    /// Whether all is in the cache.
    pub fn is_complete(&self) -> bool {
        let status = self.status();
        status.bytes_local >= status.bytes_needed
    }
}
