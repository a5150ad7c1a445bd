//! Keeping the chunk cache within its limits.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::Engine;
use crate::mounter::FuseMounter;

/// Longest time between two counts of the cache: what other programs leave free is noticed within it.
const COUNT_EVERY: Duration = Duration::from_secs(10);

/// Shortest time between two counts: where nothing can be evicted, every chunk that is not kept asks for one.
const PAUSE: Duration = Duration::from_secs(1);

/// Begins to count the cache now and then, and when it grows near its limits, and to evict from it.
pub(super) fn begin(engine: &Engine, mounter: &Arc<FuseMounter>) {
    let (engine, mounter) = (engine.clone(), Arc::clone(mounter));
    let background = engine.background().clone();
    background.spawn(async move {
        let meter = mounter.cache_meter();
        loop {
            if let Err(error) = trim(&engine, &mounter).await {
                tracing::warn!(%error, "the cache cannot be kept within its limits");
            }
            tokio::time::sleep(PAUSE).await;
            // Whether it was the clock or the cache makes no difference.
            let _ = tokio::time::timeout(COUNT_EVERY, meter.pressed()).await;
        }
    });
}

async fn trim(engine: &Engine, mounter: &FuseMounter) -> Result<(), super::Error> {
    let running = engine.running_images().await?;
    let freed = mounter.trim(running).await?;
    if freed > 0 {
        tracing::info!(freed, "evicted what was used longest ago from the cache");
    }
    Ok(())
}
