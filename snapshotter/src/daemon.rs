//! The running daemon: one per root. Puts the parts together, listens, and takes everything down again.

mod node;
mod socket;
mod trim;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fuse::{Filler, ServerConfig};
use proto::control::control_server::ControlServer;
use proto::snapshots::{MESSAGE_LEN_MAX, SnapshotsServer};
use proto::store::Stores;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;

pub use self::node::NodeError;
use self::node::RootLock;
use crate::background::Background;
use crate::config::{Config, Fetch, Fill};
use crate::control::ControlService;
use crate::engine::Engine;
use crate::image::Images;
use crate::layout::Layout;
use crate::mounter::{FuseMounter, MountError};
use crate::service::Service;
use crate::store::Store;

/// How long calls in flight may take to end after a signal; containerd gives up on its own calls at about that time.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// Why the daemon cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration makes no sense.
    #[error(transparent)]
    Config(#[from] crate::config::Error),
    /// Folders, lock, mounts or sockets are not as they must be.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The store refused.
    #[error(transparent)]
    Snapshotter(#[from] crate::Error),
    /// FUSE refused.
    #[error("cannot serve images: {0}")]
    Fuse(#[from] MountError),
    /// A socket broke.
    #[error("gRPC server: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// A daemon that is ready: images are served and both sockets accept.
pub struct Daemon {
    snapshots: UnixListener,
    control: UnixListener,
    service: Service,
    control_service: ControlService,
    background: Background,
    mounter: Arc<FuseMounter>,
    address: PathBuf,
    layout: Layout,
    // Declared last: dropped when nothing else of the daemon is left.
    _lock: RootLock,
}

/// What fills images as the configuration says.
fn filler(fetch: &Fetch, layout: &Layout) -> Option<Filler> {
    let rate = match fetch.fill {
        Fill::Off => return None,
        Fill::Auto => None,
        Fill::Rate(rate) => Some(rate.0),
    };
    Some(Filler::new(rate, fetch.fill_free_min.0, layout.cache()))
}

impl Daemon {
    /// Starts a daemon: takes the root, mounts, serves what is known, listens. Needs a tokio runtime.
    pub async fn start(config: &Config) -> Result<Self, Error> {
        config.check()?;
        node::require_root()?;
        let layout = Layout::new(&config.root, &config.run_dir);
        let address = config.address.clone().unwrap_or_else(|| layout.address());
        node::create_dirs(&layout)?;
        let lock = RootLock::take(&layout.lock())?;
        // Sockets first: they tell whether a daemon with another root uses the same run folder.
        let snapshots = socket::listen(&address)?;
        let control = socket::listen(&layout.control())?;
        node::detach_stale(&layout.fuse())?;
        node::refuse_lost_store(&layout)?;
        let store = Store::open(&layout.store())?;
        let server = ServerConfig {
            mountpoint: layout.fuse(),
            cache_dir: layout.cache(),
            cache_limits: (&config.cache).into(),
            erofs_dir: layout.erofs(),
            data_path: config.data_path.into(),
            threads: config.fuse.threads,
            read_deadline: config.fuse.read_deadline,
        };
        let stores = Stores::new(&config.fetch.stores()?).map_err(MountError::from)?;
        let filler = filler(&config.fetch, &layout);
        let mounter = Arc::new(FuseMounter::start(server, config.registry.clone(), stores, filler).await?);
        let images = Arc::new(Images::new(Arc::clone(&mounter) as _, layout.clone()));
        let engine = Engine::new(store, layout.clone(), images);
        engine.restore().await?;
        trim::begin(&engine, &mounter);
        let cache = mounter.cache_meter();
        Ok(Self {
            snapshots,
            control,
            service: Service::new(engine.clone()),
            background: engine.background().clone(),
            control_service: ControlService::new(engine, layout.clone(), cache),
            mounter,
            address,
            layout,
            _lock: lock,
        })
    }

    /// The socket for containerd.
    pub fn address(&self) -> &std::path::Path {
        &self.address
    }

    /// Answers until `stop` is cancelled, then finishes calls in flight, unmounts, and removes the sockets.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let snapshots = SnapshotsServer::new(self.service)
            .max_decoding_message_size(MESSAGE_LEN_MAX)
            .max_encoding_message_size(MESSAGE_LEN_MAX);
        let serving = tonic::transport::Server::builder()
            .add_service(snapshots)
            .serve_with_incoming_shutdown(
                UnixListenerStream::new(self.snapshots),
                stop.clone().cancelled_owned(),
            );
        let controlling = tonic::transport::Server::builder()
            .add_service(ControlServer::new(self.control_service))
            .serve_with_incoming_shutdown(
                UnixListenerStream::new(self.control),
                stop.clone().cancelled_owned(),
            );
        let drained = async {
            stop.cancelled().await;
            tokio::time::sleep(DRAIN_DEADLINE).await;
        };
        let outcome = tokio::select! {
            outcome = async { tokio::try_join!(serving, controlling) } => outcome.map(drop),
            () = drained => {
                tracing::warn!("calls in flight did not end in time");
                Ok(())
            }
        };
        socket::remove(&self.address);
        socket::remove(&self.layout.control());
        self.background.end().await;
        match Arc::try_unwrap(self.mounter) {
            Ok(mounter) => mounter.stop().await?,
            // A call that did not end holds it.
            Err(_) => node::detach(&self.layout.fuse())?,
        }
        outcome?;
        Ok(())
    }
}
