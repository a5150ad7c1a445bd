//! Which images become complete: those that containers use. One that was only pulled may never be started.

use super::Engine;
use crate::plan::{self, Stack};
use crate::store::{Kind, Role, Snapshot, SnapshotId};
use crate::{Error, Result};

/// Snapshots read at once.
const PAGE_COUNT_MAX: usize = 500;

impl Engine {
    /// Begins to fill the image that a new container stands on, if it stands on one.
    pub(super) fn fill(&self, stack: &Stack, parents: &[Snapshot]) {
        let image = parents.iter().find(|parent| Some(parent.id) == stack.image);
        if let Some(id) = image.and_then(Snapshot::image_id) {
            self.images.fill(id);
        }
    }

    /// Begins to fill the images that the containers of an earlier process use.
    pub(super) async fn fill_used(&self) -> Result<()> {
        let mut after = SnapshotId(0);
        loop {
            let page = self.page(after, PAGE_COUNT_MAX).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.id;
            let containers = page
                .into_iter()
                .filter(|snapshot| snapshot.kind == Kind::Active && snapshot.role == Role::Ordinary);
            for container in containers {
                let chain = self.blocking(move |disk| disk.store.chain(&container.name)).await;
                match chain.as_deref() {
                    Ok([_, parents @ ..]) => {
                        if let Ok(stack) = plan::stack(Role::Ordinary, parents) {
                            self.fill(&stack, parents);
                        }
                    }
                    // Removed meanwhile.
                    Ok([]) | Err(Error::NotFound { .. }) => {}
                    Err(_) => return chain.map(drop),
                }
            }
        }
    }
}
