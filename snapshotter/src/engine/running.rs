//! Which images containers use.

use std::collections::HashMap;

use fuse::ImageId;

use super::Engine;
use crate::store::{Kind, Role, Snapshot, SnapshotId};
use crate::{Result, plan};

/// Snapshots read at once.
const PAGE_COUNT_MAX: usize = 500;

impl Engine {
    /// All snapshots.
    pub async fn all(&self) -> Result<Vec<Snapshot>> {
        let mut all: Vec<Snapshot> = Vec::new();
        loop {
            let after = all.last().map_or(SnapshotId(0), |snapshot| snapshot.id);
            let page = self.page(after, PAGE_COUNT_MAX).await?;
            let is_last = page.len() < PAGE_COUNT_MAX;
            all.extend(page);
            if is_last {
                return Ok(all);
            }
        }
    }

    /// Containers and views, by the bootstrap snapshot they stand on.
    pub async fn mount_counts(&self) -> Result<HashMap<SnapshotId, u64>> {
        Ok(mount_counts(&self.all().await?))
    }

    /// The images that containers and views stand on.
    pub async fn running_images(&self) -> Result<Vec<ImageId>> {
        let counts = self.mount_counts().await?;
        let known = self.known_images().await?.into_iter();
        let running = known.filter(|(_, bootstrap)| counts.contains_key(&bootstrap.id));
        Ok(running.map(|(id, _)| id).collect())
    }
}

fn mount_counts(all: &[Snapshot]) -> HashMap<SnapshotId, u64> {
    let by_id: HashMap<_, _> = all.iter().map(|snapshot| (snapshot.id, snapshot)).collect();
    let mut counts = HashMap::new();
    for user in all
        .iter()
        .filter(|user| user.kind != Kind::Committed && user.role == Role::Ordinary)
    {
        let ancestors =
            std::iter::successors(Some(user), |child| by_id.get(&child.parent.as_ref()?.id).copied());
        let parents: Vec<_> = ancestors.skip(1).cloned().collect();
        if let Ok(plan::Stack {
            image: Some(image), ..
        }) = plan::stack(Role::Ordinary, &parents)
        {
            *counts.entry(image).or_insert(0) += 1;
        }
    }
    counts
}
