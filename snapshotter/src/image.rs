//! The images being served, each made visible once however many containers ask for it at the same time.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use fuse::{ImageId, ImageStatus, TierChoice};
use futures::StreamExt;
use tokio::sync::OnceCell;

use crate::layout::Layout;
use crate::mounter::{Image, MountError, Mounter};
use crate::store::{Origin, Snapshot};
use crate::{Error, Result};

/// Images opened at the same time at start: enough to hide the disk, few enough to leave the CPU to the rest.
const RESTORE_COUNT_MAX: usize = 4;

/// A visible image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// Its folder.
    pub path: PathBuf,
    /// When it became visible.
    pub since: SystemTime,
}

/// The images being served.
pub struct Images {
    mounter: Arc<dyn Mounter>,
    layout: Layout,
    slots: Mutex<HashMap<ImageId, Arc<OnceCell<Served>>>>,
}

impl Images {
    /// Serves nothing yet.
    pub fn new(mounter: Arc<dyn Mounter>, layout: Layout) -> Self {
        Self {
            mounter,
            layout,
            slots: Mutex::default(),
        }
    }

    /// The folder of the image that belongs to a committed bootstrap snapshot; makes it visible when it is not.
    /// Callers at the same time share one attempt. A failure is not remembered: the next caller tries again.
    pub async fn serve(&self, bootstrap: &Snapshot) -> Result<PathBuf> {
        let (Some(id), Some(origin)) = (bootstrap.image_id(), &bootstrap.origin) else {
            return Err(Error::NoBootstrap {
                name: bootstrap.name.clone(),
            });
        };
        let slot = Arc::clone(self.slots().entry(id).or_default());
        let image = self.image(id, bootstrap, origin);
        let served = slot.get_or_try_init(|| self.mount(&image)).await;
        let served = served.map_err(|source| Error::Image {
            reference: origin.image.clone(),
            source: Box::new(source),
        })?;
        Ok(served.path.clone())
    }

    /// Makes all known images readable for those who opened them before, ahead of serving them. One that fails is
    /// reported; its files give errors.
    pub async fn announce(&self, images: &[(ImageId, Snapshot)]) {
        let announce = |(id, snapshot): &(ImageId, Snapshot)| {
            let image = (snapshot.origin.as_ref()).map(|origin| self.image(*id, snapshot, origin));
            async move {
                if let Some(image) = image
                    && let Err(error) = self.mounter.announce(&image).await
                {
                    tracing::error!(image = image.id.0, %error, "cannot serve a known image");
                }
            }
        };
        each(images.iter().map(announce)).await;
    }

    /// Serves all known images again. One that fails is reported and left for its next container to try.
    pub async fn restore(&self, images: &[(ImageId, Snapshot)]) {
        let restore = |(_, snapshot): &(ImageId, Snapshot)| {
            let snapshot = snapshot.clone();
            async move {
                if let Err(error) = self.serve(&snapshot).await {
                    tracing::error!(snapshot = snapshot.name, %error, "cannot serve a known image");
                }
            }
        };
        each(images.iter().map(restore)).await;
    }

    /// Stops to serve an image whose bootstrap snapshot is gone.
    pub async fn forget(&self, id: ImageId) {
        let known = self.slots().remove(&id).is_some();
        if known {
            self.mounter.unmount(id).await;
            tracing::info!(image = id.0, "image no longer served");
        }
    }

    /// Deletes cached data of images that are no longer known. Returns how many blobs.
    pub async fn reclaim(&self, known: &[(ImageId, Snapshot)]) -> Result<usize, MountError> {
        let bootstraps = known.iter();
        let bootstraps = bootstraps.map(|(_, snapshot)| self.layout.bootstrap(snapshot.id));
        self.mounter.reclaim(bootstraps.collect()).await
    }

    /// Whether and since when an image is visible.
    pub fn served(&self, id: ImageId) -> Option<Served> {
        self.slots().get(&id)?.get().cloned()
    }

    /// Images that are visible or being made so.
    pub fn ids(&self) -> Vec<ImageId> {
        self.slots().keys().copied().collect()
    }

    /// Begins to make an image complete, because a container uses it.
    pub fn fill(&self, id: ImageId) {
        self.mounter.fill(id);
    }

    /// Numbers of an image.
    pub fn status(&self, id: ImageId) -> Option<ImageStatus> {
        self.mounter.status(id)
    }

    /// Which way an image, or any, reaches the kernel.
    pub fn data_path(&self, id: Option<ImageId>) -> TierChoice {
        self.mounter.data_path(id)
    }

    fn image(&self, id: ImageId, bootstrap: &Snapshot, origin: &Origin) -> Image {
        Image {
            id,
            bootstrap: self.layout.bootstrap(bootstrap.id),
            reference: origin.image.clone(),
        }
    }

    async fn mount(&self, image: &Image) -> Result<Served, MountError> {
        let path = self.mounter.mount(image).await?;
        tracing::info!(image = image.id.0, reference = image.reference, "image served");
        Ok(Served {
            path,
            since: SystemTime::now(),
        })
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, HashMap<ImageId, Arc<OnceCell<Served>>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does work for many images, a few at a time.
async fn each(work: impl Iterator<Item = impl Future<Output = ()>>) {
    futures::stream::iter(work)
        .buffer_unordered(RESTORE_COUNT_MAX)
        .collect()
        .await
}
