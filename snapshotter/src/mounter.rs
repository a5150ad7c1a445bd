//! Making images visible on the node: the trait, and the FUSE server behind it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use fuse::{
    CacheMeter, Connection, Filler, ImageId, ImageSpec, ImageStatus, Server, ServerConfig, TierChoice,
};
use proto::image::{ImageSource, Location, Options};
use proto::registry::Network;
use proto::store::Stores;
use tokio_util::task::TaskTracker;

use crate::config::Registry;
use crate::source::Layered;

/// An image to be made visible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its number.
    pub id: ImageId,
    /// Its metadata.
    pub bootstrap: PathBuf,
    /// Where its data is, as pulled: `registry.example/app:1`.
    pub reference: String,
}

/// Why an image could not be made visible.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// Its reference cannot be read, or its place not opened.
    #[error(transparent)]
    Source(#[from] proto::image::Error),
    /// The FUSE server refused it.
    #[error("{0}")]
    Serve(#[source] Box<fuse::server::Error>),
    /// The daemon is stopping.
    #[error("slipwayd is stopping")]
    Stopping,
}

impl From<fuse::server::Error> for MountError {
    fn from(source: fuse::server::Error) -> Self {
        Self::Serve(Box::new(source))
    }
}

/// Makes images visible as folders.
#[tonic::async_trait]
pub trait Mounter: Send + Sync + 'static {
    /// Makes an image known, so that what was opened of it before can be read. Nothing is mounted, and the session need
    /// not answer yet.
    async fn announce(&self, image: &Image) -> Result<(), MountError>;
    /// Shows an image and returns its folder. Showing one that is visible already is no error.
    async fn mount(&self, image: &Image) -> Result<PathBuf, MountError>;
    /// Hides an image. Files that are open stay readable.
    async fn unmount(&self, id: ImageId);
    /// Deletes cached data that neither a visible image needs nor one of these bootstraps. Returns how many blobs.
    async fn reclaim(&self, keep: Vec<PathBuf>) -> Result<usize, MountError>;
    /// Begins to make a visible image complete in the background, if that is wanted at all.
    fn fill(&self, id: ImageId);
    /// Numbers of a visible image.
    fn status(&self, id: ImageId) -> Option<ImageStatus>;
    /// Which way a visible image reaches the kernel, or any image would where nothing speaks against it; and why.
    fn data_path(&self, id: Option<ImageId>) -> TierChoice;
}

/// Shows images through the node's one FUSE session, and mounts of the kernel's EROFS on it.
pub struct FuseMounter {
    server: Arc<Server>,
    registry: Registry,
    network: Arc<Network>,
    stores: Stores,
    filler: Option<Filler>,
    /// Calls to the server that run to their end even when nobody waits for them any more.
    calls: TaskTracker,
}

impl FuseMounter {
    /// Prepares the session. Images can be announced; nothing is mounted before [`FuseMounter::start`] or
    /// [`FuseMounter::resume`]. Without a `filler`, images stay as incomplete as their readers leave them.
    pub async fn prepare(
        config: ServerConfig,
        registry: Registry,
        stores: Stores,
        filler: Option<Filler>,
    ) -> Result<Self, MountError> {
        let runtime = tokio::runtime::Handle::current();
        let calls = TaskTracker::new();
        let server = blocking(&calls, move || Ok(Server::prepare(&config, runtime)?)).await?;
        Ok(Self {
            calls,
            server: Arc::new(server),
            network: network(&registry),
            registry,
            stores,
            filler,
        })
    }

    /// Evicts from the cache what is beyond its limits, what these images use last. Returns how many bytes went.
    pub async fn trim(&self, running: Vec<ImageId>) -> Result<u64, MountError> {
        self.call(move |server| server.trim(&running)).await
    }

    /// What is known of registries, logins among it.
    pub fn network(&self) -> Arc<Network> {
        Arc::clone(&self.network)
    }

    /// Tells how much the cache holds.
    pub fn cache_meter(&self) -> CacheMeter {
        self.server.cache_meter()
    }

    /// Mounts the session with a connection that `keep` puts in a safe place.
    pub async fn start(
        &self,
        mut keep: impl FnMut(BorrowedFd<'_>, &Connection) -> io::Result<()> + Send + 'static,
    ) -> Result<(), MountError> {
        self.call(move |server| server.mount_kept(&mut keep)).await
    }

    /// Goes on with the session of a daemon that is gone.
    pub async fn resume(&self, device: OwnedFd, connection: Connection) -> Result<(), MountError> {
        self.call(move |server| server.resume(device.as_fd(), &connection))
            .await
    }

    /// Stops to answer and leaves the session to the next daemon, when the calls that were begun are done. The process
    /// must end soon after.
    pub async fn leave(&self) -> Result<(), MountError> {
        self.calls.close();
        self.calls.wait().await;
        self.call(Server::leave).await
    }

    /// Unmounts the session and with it all images, when the calls that were begun are done.
    pub async fn stop(self) -> Result<(), MountError> {
        self.calls.close();
        self.calls.wait().await;
        match Arc::try_unwrap(self.server) {
            Ok(server) => blocking(&self.calls, move || Ok(server.unmount()?)).await,
            // Somebody else holds the server: the mount ends with the last holder.
            Err(_) => Err(MountError::Stopping),
        }
    }

    async fn spec(&self, image: &Image) -> Result<ImageSpec, MountError> {
        let location: Location = image.reference.parse()?;
        let source = ImageSource::open(&location, &options(&location, &self.registry, &self.network)).await?;
        Ok(ImageSpec {
            id: image.id,
            bootstrap: image.bootstrap.clone(),
            source: Arc::new(Layered::new(self.stores.clone(), source)),
        })
    }

    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Server) -> Result<T, fuse::server::Error> + Send + 'static,
    ) -> Result<T, MountError> {
        let server = Arc::clone(&self.server);
        blocking(&self.calls, move || Ok(work(&server)?)).await
    }
}

#[tonic::async_trait]
impl Mounter for FuseMounter {
    async fn announce(&self, image: &Image) -> Result<(), MountError> {
        let spec = self.spec(image).await?;
        self.call(move |server| server.announce(spec)).await
    }

    async fn mount(&self, image: &Image) -> Result<PathBuf, MountError> {
        let spec = self.spec(image).await?;
        self.call(move |server| {
            let id = spec.id;
            server.add(spec)?;
            Ok(server.path(id))
        })
        .await
    }

    async fn unmount(&self, id: ImageId) {
        let removing = self.call(move |server| {
            server.remove(id);
            Ok(())
        });
        if let Err(error) = removing.await {
            tracing::debug!(image = id.0, %error, "image not hidden, the session is ending");
        }
    }

    async fn reclaim(&self, keep: Vec<PathBuf>) -> Result<usize, MountError> {
        self.call(move |server| server.reclaim(&keep)).await
    }

    fn fill(&self, id: ImageId) {
        if let Some(filler) = &self.filler {
            self.server.fill(id, filler);
        }
    }

    fn status(&self, id: ImageId) -> Option<ImageStatus> {
        self.server.status(id)
    }

    fn data_path(&self, id: Option<ImageId>) -> TierChoice {
        match id {
            Some(id) => self.server.data_path_of(id),
            None => self.server.data_path(),
        }
    }
}

/// Runs what reads files or talks to the kernel where it holds up nobody.
async fn blocking<T: Send + 'static>(
    calls: &TaskTracker,
    work: impl FnOnce() -> Result<T, MountError> + Send + 'static,
) -> Result<T, MountError> {
    calls
        .spawn_blocking(work)
        .await
        .unwrap_or(Err(MountError::Stopping))
}

/// What all images share to reach registries.
pub fn network(registry: &Registry) -> Arc<Network> {
    let hosts_dir = (!registry.hosts_dir.as_os_str().is_empty()).then(|| registry.hosts_dir.clone());
    Arc::new(Network::new(hosts_dir).with_credentials(&registry.credential_places()))
}

/// How to reach the place of an image.
pub fn options(location: &Location, registry: &Registry, network: &Arc<Network>) -> Options {
    let plain_http = match location {
        Location::Docker(reference) => registry.plain_http.contains(&reference.host),
        _ => false,
    };
    Options {
        plain_http,
        network: Arc::clone(network),
        ..Options::default()
    }
}
