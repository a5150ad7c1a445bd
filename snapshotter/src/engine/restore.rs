//! What an earlier process left: its images, and folders that it did not finish.

use super::Engine;
use crate::{Result, cleanup};

impl Engine {
    /// Makes all known images readable for those who opened them under an earlier process.
    pub async fn announce(&self) -> Result<()> {
        self.images.announce(&self.known_images().await?).await;
        Ok(())
    }

    /// Takes back what an earlier process left half done and serves all known images again.
    pub async fn restore(&self) -> Result<()> {
        let known = self
            .blocking(|disk| {
                let deleted = cleanup::sweep(&disk.layout, &disk.store, true)?;
                if deleted > 0 {
                    tracing::info!(deleted, "took back folders without a snapshot");
                }
                disk.store.images()
            })
            .await?;
        self.images.restore(&known).await;
        self.fill_used().await?;
        self.reclaim_later();
        Ok(())
    }
}
