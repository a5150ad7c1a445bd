//! The running daemon: one per root. Puts the parts together, listens, and takes everything down again.

mod hand_over;
mod node;
mod record;
mod socket;
mod takeover;
mod trim;

use std::io;
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
use tonic::service::Routes;

pub use self::hand_over::{HandOver, HandOverError};
use self::node::Lock;
pub use self::node::NodeError;
use self::record::Record;
pub(crate) use self::record::VERSION as RECORD_VERSION;
use self::takeover::{Course, Found};
use crate::config::{Config, Fetch, Fill};
use crate::control::ControlService;
use crate::cri::ImageProxy;
use crate::engine::Engine;
use crate::image::Images;
use crate::keeper::{self, Held, Keeper};
use crate::layout::Layout;
use crate::mounter::{FuseMounter, MountError};
use crate::service::Service;
use crate::store::Store;
use crate::upgrade::Upgrader;

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
    /// What should outlive the daemon cannot be kept, or what is kept not taken.
    #[error(transparent)]
    Keeper(#[from] keeper::Error),
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
    image_service: Option<ImageService>,
    engine: Engine,
    mounter: Arc<FuseMounter>,
    keeper: Arc<Keeper>,
    address: PathBuf,
    layout: Layout,
    // Declared last: dropped when nothing else of the daemon is left.
    _locks: [Lock; 2],
}

/// What became of the images when the daemon ended.
#[derive(Debug)]
pub enum Ended {
    /// Nothing is mounted any more.
    Unmounted,
    /// Containers stand on images, so the keeper has what the next daemon needs to go on; until then they wait.
    Kept {
        /// Containers and views.
        users: u64,
    },
    /// Everything waits for another program, which is to be put in the place of this one at once.
    Replaced {
        /// The program.
        program: PathBuf,
        /// What it has to be given as systemd would.
        handed: Vec<Held>,
    },
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
    /// Starts a daemon: takes the root, goes on with what the keeper has or mounts, serves what is known, listens. Needs
    /// a tokio runtime. `keeper` is asked for when the run folder is there and locked.
    pub async fn start(
        config: &Config,
        keeper: impl FnOnce(&Layout) -> Result<Keeper, keeper::Error>,
    ) -> Result<Self, Error> {
        config.check()?;
        node::require_root()?;
        let layout = Layout::new(&config.root, &config.run_dir);
        let address = config.address.clone().unwrap_or_else(|| layout.address());
        node::create_dirs(&layout)?;
        let locks = [Lock::file(&layout.lock())?, Lock::folder(layout.run_dir())?];
        node::refuse_lost_store(&layout)?;
        let store = Store::open(&layout.store())?;
        let keeper = keeper(&layout)?;
        let mut found = Found::look(&layout, &keeper)?;
        let course = found.decide(&config.root, store.identity())?;
        let snapshots = socket::listen_kept(&address, "snapshots", &mut found, &keeper)?;
        let control = socket::listen_kept(&layout.control(), "control", &mut found, &keeper)?;
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
        let mounter = Arc::new(FuseMounter::prepare(server, config.registry.clone(), stores, filler).await?);
        let image_service = match config.registry.image_service() {
            Some((socket, containerd)) => {
                let proxy = ImageProxy::new(containerd, mounter.network())?;
                Some(ImageService {
                    proxy,
                    listener: socket::listen(socket)?,
                    path: socket.to_owned(),
                })
            }
            None => None,
        };
        let images = Arc::new(Images::new(Arc::clone(&mounter) as _, layout.clone()));
        let daemon = Self {
            snapshots,
            control,
            image_service,
            engine: Engine::new(store, layout.clone(), images, &config.overlay),
            mounter,
            keeper: Arc::new(keeper),
            address,
            layout,
            _locks: locks,
        };
        daemon.begin(course).await?;
        daemon.engine.restore().await?;
        trim::begin(&daemon.engine, &daemon.mounter);
        Ok(daemon)
    }

    /// Makes the session answer. All known images are announced before, so that no request finds one missing.
    async fn begin(&self, course: Course) -> Result<(), Error> {
        self.engine.announce().await?;
        let reason = match course {
            Course::Resume(device, connection) => {
                self.mounter.resume(device, connection).await?;
                tracing::info!(mount = %self.layout.fuse().display(), "going on with the mount of an earlier daemon");
                return Ok(());
            }
            Course::Anew(reason) => reason,
        };
        if let Some(reason) = reason {
            tracing::warn!(
                reason,
                "cannot go on with the mount of an earlier daemon; its readers get errors"
            );
        }
        // First the record: without it, nobody goes on with a connection that is half set up.
        let record = self.layout.record();
        Record::remove(&record)?;
        self.let_go("fuse-")?;
        node::detach_stale(&self.layout.fuse())?;
        let (root, store) = (self.layout.root().to_owned(), self.engine.store_identity());
        let keeper = Arc::clone(&self.keeper);
        self.mounter
            .start(move |device, connection| {
                Record::new(&root, store, *connection).write(&record)?;
                let name = takeover::connection_name(connection);
                keeper.store(&name, device).map_err(io::Error::other)
            })
            .await?;
        Ok(())
    }

    /// Makes the keeper let go of all whose name begins like this.
    fn let_go(&self, prefix: &str) -> Result<(), keeper::Error> {
        let held = self.keeper.take()?;
        let names = held.iter().map(|(name, _)| name);
        names
            .filter(|name| name.starts_with(prefix))
            .try_for_each(|name| self.keeper.remove(name))
    }

    /// The socket for containerd.
    pub fn address(&self) -> &std::path::Path {
        &self.address
    }

    /// What lets others have this daemon replaced by another program.
    pub fn hand_over(&self, upgrader: &Upgrader) -> HandOver {
        HandOver {
            upgrader: upgrader.clone(),
            record: self.layout.record(),
        }
    }

    /// Answers until `stop` is cancelled and finishes calls in flight. Then unmounts and removes the sockets, unless
    /// containers stand on images or `upgrader` has another program that goes on: then all that stays for the next
    /// daemon, and the process must end soon.
    pub async fn run(self, upgrader: Upgrader, stop: CancellationToken) -> Result<Ended, Error> {
        let hand_over = self.hand_over(&upgrader);
        let snapshots = SnapshotsServer::new(Service::new(self.engine.clone()))
            .max_decoding_message_size(MESSAGE_LEN_MAX)
            .max_encoding_message_size(MESSAGE_LEN_MAX);
        let serving = serve(Routes::new(snapshots), self.snapshots, &stop);
        let control = ControlService::new(
            self.engine.clone(),
            self.layout.clone(),
            self.mounter.cache_meter(),
            hand_over,
        );
        let controlling = serve(Routes::new(ControlServer::new(control)), self.control, &stop);
        let passing = async {
            match self.image_service {
                Some(service) => service.serve(&stop).await,
                None => Ok(()),
            }
        };
        let drained = async {
            stop.cancelled().await;
            tokio::time::sleep(DRAIN_DEADLINE).await;
        };
        let outcome = tokio::select! {
            outcome = async { tokio::try_join!(serving, controlling, passing) } => outcome.map(drop),
            () = drained => {
                tracing::warn!("calls in flight did not end in time");
                Ok(())
            }
        };
        self.engine.background().end().await;
        let users = users(&self.engine).await;
        drop(self.engine);
        let place = Place {
            keeper: self.keeper,
            address: self.address,
            layout: self.layout,
        };
        let ended = match (upgrader.chosen(), users) {
            (Some(program), _) => {
                let handed = place.keeper.handed_on()?;
                self.mounter.leave().await?;
                Ended::Replaced {
                    program: program.to_owned(),
                    handed,
                }
            }
            (None, 0) => place.clear(self.mounter).await?,
            (None, users) => {
                self.mounter.leave().await?;
                Ended::Kept { users }
            }
        };
        outcome?;
        Ok(ended)
    }
}

/// The CRI's image service, passed on to containerd. Its socket does not outlive the daemon: who calls meanwhile tries
/// again.
struct ImageService {
    proxy: ImageProxy,
    listener: UnixListener,
    path: PathBuf,
}

impl ImageService {
    async fn serve(self, stop: &CancellationToken) -> Result<(), tonic::transport::Error> {
        let served = serve(Routes::new(self.proxy), self.listener, stop).await;
        socket::remove(&self.path);
        served
    }
}

/// Answers calls until `stop` is cancelled, and finishes those in flight.
fn serve(
    routes: Routes,
    listener: UnixListener,
    stop: &CancellationToken,
) -> impl Future<Output = Result<(), tonic::transport::Error>> + use<> {
    tonic::transport::Server::builder()
        .add_routes(routes)
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.clone().cancelled_owned())
}

/// Containers and views that stand on lazily loaded images. When that cannot be told there may be some.
async fn users(engine: &Engine) -> u64 {
    match engine.mount_counts().await {
        Ok(counts) => counts.values().sum(),
        Err(error) => {
            tracing::warn!(%error, "cannot tell whether containers stand on images");
            1
        }
    }
}

/// What a daemon leaves behind or takes with it.
struct Place {
    keeper: Arc<Keeper>,
    address: PathBuf,
    layout: Layout,
}

impl Place {
    /// Takes everything down, so that nothing of the daemon is left on the node.
    async fn clear(self, mounter: Arc<FuseMounter>) -> Result<Ended, Error> {
        socket::remove(&self.address);
        socket::remove(&self.layout.control());
        Record::remove(&self.layout.record())?;
        match Arc::try_unwrap(mounter) {
            Ok(mounter) => mounter.stop().await?,
            // A call that did not end holds it.
            Err(_) => node::detach(&self.layout.fuse())?,
        }
        self.keeper.end()?;
        Ok(Ended::Unmounted)
    }
}
