//! What the ten calls do, in our own types: plans from `plan`, rows in `store`, folders on disk, images served.

mod content;
mod fill;
mod restore;
mod running;
mod staging;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use containerd_client::types::Mount;

use self::staging::{Staging, owner_of};
use crate::background::Background;
use crate::config::Overlay;
use crate::image::Images;
use crate::layout::Layout;
use crate::mount::{self, Folders, OverlayOptions, Remap, mounts};
use crate::plan::{self, Plan, Stack};
use crate::store::{
    Content, Kind, LabelChange, Labels, NewSnapshot, Role, Snapshot, SnapshotId, Store, Usage,
};
use crate::{Error, Result, cleanup, usage};

/// The disk side: the database and the folders. Its work blocks.
struct Disk {
    store: Store,
    layout: Layout,
}

/// The snapshotter. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    disk: Arc<Disk>,
    images: Arc<Images>,
    overlay: OverlayOptions,
    may_remap: bool,
    background: Background,
    /// An image may be gone whose data is still in the cache.
    has_garbage: Arc<AtomicBool>,
}

impl Engine {
    /// Puts the parts together. The snapshots folder must exist.
    pub fn new(store: Store, layout: Layout, images: Arc<Images>, overlay: &Overlay) -> Self {
        Self {
            disk: Arc::new(Disk { store, layout }),
            images,
            overlay: OverlayOptions::probe(overlay),
            may_remap: overlay.remap_ids,
            background: Background::default(),
            // Whatever happened while no daemon ran.
            has_garbage: Arc::new(AtomicBool::new(true)),
        }
    }

    /// What goes on while no call waits for it.
    pub fn background(&self) -> &Background {
        &self.background
    }

    /// Which store this works on.
    pub fn store_identity(&self) -> u64 {
        self.disk.store.identity()
    }

    /// The images being served.
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// Makes an active snapshot, or answers [`Error::RemoteExists`] when the layer needs no unpacking.
    pub async fn prepare(&self, key: String, parent: String, labels: Labels) -> Result<Vec<Mount>> {
        let parents = self.parents(&parent).await?;
        let (plan, reason) = plan::prepare(&labels, &parents)?;
        tracing::debug!(key, parent, reason = reason.code(), "prepare");
        let new = |role, origin| NewSnapshot {
            name: key,
            parent,
            kind: Kind::Active,
            role,
            origin,
            labels,
        };
        match plan {
            Plan::RemoteData { reference, origin } => {
                let new = NewSnapshot {
                    kind: Kind::Committed,
                    ..new(Role::Data, origin)
                };
                Err(self.remote(reference, new).await?)
            }
            Plan::Bootstrap { origin } => {
                self.create(new(Role::Bootstrap, Some(origin)), &Stack::default(), &parents)
                    .await
            }
            Plan::Ordinary(stack) | Plan::OverImage(stack) => {
                let mounts = self.create(new(Role::Ordinary, None), &stack, &parents).await?;
                self.fill(&stack, &parents);
                Ok(mounts)
            }
        }
    }

    /// Makes a read-only snapshot.
    pub async fn view(&self, key: String, parent: String, labels: Labels) -> Result<Vec<Mount>> {
        let parents = self.parents(&parent).await?;
        let (Plan::Ordinary(stack) | Plan::OverImage(stack), _) = plan::view(&parents)? else {
            return Err(Error::WrongKind {
                name: key,
                kind: Kind::View,
                operation: "a layer",
            });
        };
        let new = NewSnapshot {
            name: key,
            parent,
            kind: Kind::View,
            role: Role::Ordinary,
            origin: None,
            labels,
        };
        self.create(new, &stack, &parents).await
    }

    /// The mounts of an active snapshot or a view, again.
    pub async fn mounts(&self, key: String) -> Result<Vec<Mount>> {
        let chain = self.blocking(move |disk| disk.store.chain(&key)).await?;
        let Some((snapshot, parents)) = chain.split_first() else {
            return Ok(Vec::new());
        };
        if snapshot.kind == Kind::Committed {
            let (name, kind) = (snapshot.name.clone(), snapshot.kind);
            return Err(Error::WrongKind {
                name,
                kind,
                operation: "mounted",
            });
        }
        let stack = plan::stack(snapshot.role, parents)?;
        let remap = self.remap(&snapshot.labels, &stack)?;
        let lowers = self.lowers(&stack, parents).await?;
        Ok(self.list(snapshot, &lowers, remap.as_ref()))
    }

    /// Finishes an active snapshot. Labels are replaced; what is known of the image stays. An image whose bootstrap
    /// this is will be served soon, so that its first container does not wait for it.
    pub async fn commit(&self, key: String, name: String, labels: Labels) -> Result<Snapshot> {
        let committing = self.blocking(move |disk| {
            let snapshot = disk.store.get(&key)?;
            let folder = disk.layout.content(snapshot.id);
            let content = Content {
                bootstrap: match snapshot.role {
                    Role::Bootstrap => Some(content::bootstrap_digest(&folder)?),
                    Role::Ordinary | Role::Data => None,
                },
                usage: usage::measure(&folder)?,
            };
            disk.store.commit(&key, &name, labels, content)
        });
        let snapshot = committing.await?;
        if snapshot.role == Role::Bootstrap {
            self.serve_later(snapshot.clone());
        }
        Ok(snapshot)
    }

    fn serve_later(&self, bootstrap: Snapshot) {
        let engine = self.clone();
        self.background.spawn(async move {
            if let Err(error) = engine.images.serve(&bootstrap).await {
                tracing::warn!(snapshot = bootstrap.name, %error, "cannot serve an image yet");
            }
            // It may have been removed meanwhile, and the cleanup may have been too early to see it.
            if let Err(error) = engine.hide_unknown().await {
                tracing::warn!(%error, "cannot tell which images are gone");
            }
        });
    }

    /// Forgets a snapshot; its folder is left to [`Engine::cleanup`].
    pub async fn remove(&self, key: String) -> Result<()> {
        let removed = self.blocking(move |disk| disk.store.remove(&key)).await?;
        if removed.image.is_some() {
            self.has_garbage.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Finds a snapshot.
    pub async fn stat(&self, key: String) -> Result<Snapshot> {
        self.blocking(move |disk| disk.store.get(&key)).await
    }

    /// Changes labels.
    pub async fn update(&self, name: String, change: LabelChange) -> Result<Snapshot> {
        self.blocking(move |disk| disk.store.update(&name, change)).await
    }

    /// Up to `count_max` snapshots with numbers above `after`. A short page is the last one.
    pub async fn page(&self, after: SnapshotId, count_max: usize) -> Result<Vec<Snapshot>> {
        self.blocking(move |disk| disk.store.page(after, count_max)).await
    }

    /// All known images, served or not.
    pub async fn known_images(&self) -> Result<Vec<(fuse::ImageId, Snapshot)>> {
        self.blocking(|disk| disk.store.images()).await
    }

    /// Space of one snapshot without its parents: measured for active ones, stored for committed ones. An image's
    /// bootstrap snapshot counts the data that was fetched for it.
    pub async fn usage(&self, key: String) -> Result<Usage> {
        let snapshot = self.stat(key).await?;
        match snapshot.kind {
            Kind::Active => {
                self.blocking(move |disk| usage::measure(&disk.layout.content(snapshot.id)))
                    .await
            }
            Kind::View => Ok(Usage::default()),
            Kind::Committed => {
                let status = snapshot
                    .image_id()
                    .and_then(|id| self.images.status(id))
                    .unwrap_or_default();
                let bytes = snapshot.usage.bytes.saturating_add(status.bytes_disk);
                Ok(Usage {
                    bytes,
                    ..snapshot.usage
                })
            }
        }
    }

    /// Hides images and deletes folders of removed snapshots; begins to delete what the cache has of them.
    pub async fn cleanup(&self) -> Result<()> {
        self.hide_unknown().await?;
        self.reclaim_later();
        let deleted = self
            .blocking(|disk| cleanup::sweep(&disk.layout, &disk.store, false))
            .await?;
        tracing::debug!(deleted, "cleanup");
        Ok(())
    }

    /// Stops to serve images that were removed.
    async fn hide_unknown(&self) -> Result<()> {
        // What is served is asked first: an image that comes in between is known.
        let served = self.images.ids();
        let known = self.known_images().await?;
        let is_known = |id: &fuse::ImageId| known.iter().any(|(known, _)| known == id);
        for id in served.into_iter().filter(|id| !is_known(id)) {
            self.images.forget(id).await;
        }
        Ok(())
    }

    /// Deletes cached data of removed images, if there may be any. A failure is left for the next time.
    fn reclaim_later(&self) {
        if !self.has_garbage.swap(false, Ordering::AcqRel) {
            return;
        }
        let engine = self.clone();
        self.background.spawn(async move {
            match engine.reclaim().await {
                Ok(deleted) => tracing::debug!(deleted, "deleted cached blobs that no image needs"),
                Err(error) => {
                    engine.has_garbage.store(true, Ordering::Release);
                    tracing::warn!(%error, "cannot delete cached blobs that no image needs");
                }
            }
        });
    }

    async fn reclaim(&self) -> Result<usize> {
        let known = self.known_images().await?;
        let reclaimed = self.images.reclaim(&known).await;
        reclaimed.map_err(|source| Error::Cache(Box::new(source)))
    }

    /// The ancestors of a new snapshot, nearest first.
    async fn parents(&self, parent: &str) -> Result<Vec<Snapshot>> {
        if parent.is_empty() {
            return Ok(Vec::new());
        }
        let name = parent.to_owned();
        let parents = self.blocking(move |disk| disk.store.chain(&name)).await?;
        match parents.first() {
            Some(nearest) if nearest.kind != Kind::Committed => Err(Error::ParentNotCommitted {
                parent: nearest.name.clone(),
                kind: nearest.kind,
            }),
            _ => Ok(parents),
        }
    }

    /// Commits a layer that stays in its registry. The answer is an error, as the protocol has it.
    async fn remote(&self, reference: String, new: NewSnapshot) -> Result<Error> {
        self.blocking(move |disk| {
            let known = match &new.origin {
                Some(_) => {
                    disk.store.create_remote(&reference, &new)?;
                    true
                }
                None => disk.store.has_remote(&reference, &new.parent)?,
            };
            Ok(if known {
                Error::RemoteExists { reference }
            } else {
                Error::NoImageReference { layer: reference }
            })
        })
        .await
    }

    async fn create(&self, new: NewSnapshot, stack: &Stack, parents: &[Snapshot]) -> Result<Vec<Mount>> {
        let remap = self.remap(&new.labels, stack)?;
        let root = remap.as_ref().map(Remap::root);
        let lowers = self.lowers(stack, parents).await?;
        // An unpacked layer may have been given other owners. An image's root has none to pass on: containerd's
        // unpacker, too, leaves the root as it made it.
        let top = stack.layers.first().map(|id| self.disk.layout.content(*id));
        let snapshot = self
            .blocking(move |disk| {
                let owner = match root {
                    Some(root) => Some(root),
                    None => top.as_deref().map(owner_of).transpose()?,
                };
                let mut staging = Staging::create(&disk.layout, new.kind, owner)?;
                disk.store.create(&new, |id| staging.place(id))
            })
            .await?;
        Ok(self.list(&snapshot, &lowers, remap.as_ref()))
    }

    /// How the labels of a snapshot want ids to be mapped.
    fn remap(&self, labels: &Labels, stack: &Stack) -> Result<Option<Remap>> {
        let remap = Remap::of(labels)?;
        if remap.is_some() {
            mount::check_remap(self.may_remap, stack)?;
        }
        Ok(remap)
    }

    /// The folders of a stack, topmost first; its image is made visible.
    async fn lowers(&self, stack: &Stack, parents: &[Snapshot]) -> Result<Vec<PathBuf>> {
        let mut lowers: Vec<_> = stack
            .layers
            .iter()
            .map(|id| self.disk.layout.content(*id))
            .collect();
        if let Some(image) = parents.iter().find(|parent| Some(parent.id) == stack.image) {
            lowers.push(self.images.serve(image).await?);
        }
        Ok(lowers)
    }

    fn list(&self, snapshot: &Snapshot, lowers: &[PathBuf], remap: Option<&Remap>) -> Vec<Mount> {
        let layout = &self.disk.layout;
        let (content, work) = (layout.content(snapshot.id), layout.work(snapshot.id));
        mounts(
            snapshot.kind,
            Folders {
                content: &content,
                work: &work,
                lowers,
            },
            self.overlay,
            remap,
        )
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Disk) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let disk = Arc::clone(&self.disk);
        // A blocking task fails to join only when it panicked or the runtime is going down.
        tokio::task::spawn_blocking(move || work(&disk))
            .await
            .unwrap_or(Err(Error::Stopping))
    }
}
