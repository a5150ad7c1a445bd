//! Pulling an image into containerd for clients whose own pull tells a snapshotter nothing (`ctr` of 1.6 and 1.7).
//!
//! Does what containerd's unpacker does, with the labels Kubernetes would send: manifest and config go into the
//! content store; each layer is prepared under its chain id; one the snapshotter takes over is never downloaded, any
//! other is downloaded, applied and committed; last, the image gets its name. A lease keeps the garbage collector away
//! until then. Plain OCI images work the same way.

mod client;
mod content;
mod layer;
mod plan;
mod progress;
mod unpack;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use oci_spec::image::Descriptor;
use proto::image::{ImageSource, Location, Options as SourceOptions, Platform, RawManifest, Reference};
use tokio_util::sync::CancellationToken;

use self::client::Containerd;
pub use self::layer::Layer;
pub use self::progress::{LayerState, Progress, Silent};
use crate::resolve::{Resolved, resolve};

/// Longest image config: containerd's own bound is that of a message.
const CONFIG_LEN_MAX: u64 = 8 << 20;

/// Why an image could not be pulled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Only registries can be read again later, when a container needs the data.
    #[error("{0} is not in a registry; hint: push it first, for example with `slipway convert` or skopeo")]
    NotInRegistry(String),
    /// Its place refused.
    #[error(transparent)]
    Source(#[from] proto::image::Error),
    /// Config and manifest do not fit each other.
    #[error("image config {digest}: {reason}")]
    Config {
        /// Digest of the config.
        digest: String,
        /// What is wrong.
        reason: String,
    },
    /// Containerd does not answer.
    #[error("cannot reach containerd at {}: {source}; hint: start containerd, or name its socket with --containerd-address", path.display())]
    Connect {
        /// Its socket.
        path: PathBuf,
        /// Why not.
        source: tonic::transport::Error,
    },
    /// Containerd does not know the snapshotter.
    #[error(
        "containerd has no snapshotter {0:?}; hint: `slipwayd containerd-config` prints what to add to its \
         configuration"
    )]
    NoSnapshotter(String),
    /// Containerd, or the snapshotter through it, refused.
    #[error("cannot {what}: {}", status.message())]
    Call {
        /// What was tried.
        what: &'static str,
        /// Its answer.
        status: Box<tonic::Status>,
    },
    /// Containerd unpacked something else than the config promises.
    #[error("layer {layer} unpacks to {found}, but the config says {wanted}")]
    DiffId {
        /// Digest of the layer.
        layer: String,
        /// Diff id in the config.
        wanted: String,
        /// Diff id of what was unpacked.
        found: String,
    },
    /// The pull was told to stop.
    #[error("interrupted")]
    Interrupted,
}

/// How and where to pull to.
#[derive(Debug, Clone)]
pub struct Options {
    /// Containerd's socket.
    pub address: PathBuf,
    /// Containerd's namespace.
    pub namespace: String,
    /// Name of the snapshotter in containerd's configuration.
    pub snapshotter: String,
    /// How to reach the registry.
    pub source: SourceOptions,
    /// Which image of an index.
    pub platform: Platform,
}

/// A pulled image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// Its name in containerd.
    pub name: String,
    /// Digest of what the name stands for.
    pub digest: String,
    /// Layers that stay in the registry.
    pub remote_count: usize,
    /// Layers in all.
    pub layer_count: usize,
}

/// Pulls an image. When `stop` is cancelled the pull ends soon and leaves nothing that stays.
pub async fn pull(
    location: &Location,
    options: &Options,
    progress: Arc<dyn Progress>,
    stop: &CancellationToken,
) -> Result<Pulled, Error> {
    let Location::Docker(reference) = location else {
        return Err(Error::NotInRegistry(location.to_string()));
    };
    // First what costs nothing to find out.
    let containerd = Containerd::connect(&options.address, &options.namespace).await?;
    let source = ImageSource::open(location, &options.source).await?;
    let resolved = resolve(&source, &options.platform).await?;
    let containerd = containerd.with_lease().await?;
    let pull = Pull {
        source,
        resolved,
        containerd,
        reference,
        options,
        progress,
    };
    let outcome = tokio::select! {
        outcome = pull.run() => outcome,
        () = stop.cancelled() => Err(Error::Interrupted),
    };
    // What the lease alone held is garbage from here on. An error here hides none before it.
    let released = pull.containerd.release_lease().await;
    outcome.and_then(|pulled| released.map(|()| pulled))
}

struct Pull<'a> {
    source: ImageSource,
    resolved: Resolved,
    containerd: Containerd,
    reference: &'a Reference,
    options: &'a Options,
    progress: Arc<dyn Progress>,
}

impl Pull<'_> {
    async fn run(&self) -> Result<Pulled, Error> {
        let manifest = &self.resolved.manifest;
        let config = self.source.small_blob(manifest.config(), CONFIG_LEN_MAX).await?;
        let layers = layer::layers(manifest, &config)?;
        self.store_documents(&config, &layers).await?;
        self.progress.begin(&layers);
        let remote_count = unpack::unpack(self, &layers).await?;
        let (name, target) = (self.reference.to_string(), self.target());
        self.containerd.name_image(&name, &target).await?;
        Ok(Pulled {
            name,
            digest: target.digest,
            remote_count,
            layer_count: layers.len(),
        })
    }

    /// Writes config, manifest and index, each with labels that keep alive what it refers to.
    async fn store_documents(&self, config: &[u8], layers: &[Layer]) -> Result<(), Error> {
        let Resolved {
            root, raw, manifest, ..
        } = &self.resolved;
        let config_labels = plan::config_labels(&self.options.snapshotter, layers);
        self.store(manifest.config().digest().as_ref(), config, config_labels)
            .await?;
        let manifest_labels = plan::manifest_labels(manifest);
        self.store(raw.digest.as_ref(), &raw.bytes, manifest_labels)
            .await?;
        if root.digest != raw.digest && self.resolved.unambiguous {
            let index_labels = plan::index_labels(raw.digest.as_ref());
            self.store(root.digest.as_ref(), &root.bytes, index_labels)
                .await?;
        }
        Ok(())
    }

    async fn store(
        &self,
        digest: &str,
        bytes: &[u8],
        mut labels: HashMap<String, String>,
    ) -> Result<(), Error> {
        labels.extend([plan::source_label(self.reference)]);
        let blob = content::Blob {
            digest: digest.to_owned(),
            len: bytes.len() as u64,
            labels,
        };
        let body = content::Body::Bytes(Bytes::copy_from_slice(bytes));
        content::store(&self.containerd, blob, &body, |_| {}).await
    }

    /// What the image's name stands for: the index, unless another reader of it could choose another manifest.
    fn target(&self) -> containerd_client::types::Descriptor {
        let RawManifest {
            media_type,
            digest,
            bytes,
        } = if self.resolved.unambiguous {
            &self.resolved.root
        } else {
            &self.resolved.raw
        };
        containerd_client::types::Descriptor {
            media_type: media_type.to_string(),
            digest: digest.to_string(),
            size: i64::try_from(bytes.len()).unwrap_or(i64::MAX),
            annotations: HashMap::new(),
        }
    }

    fn descriptor(&self, layer: &Descriptor) -> containerd_client::types::Descriptor {
        containerd_client::types::Descriptor {
            media_type: layer.media_type().to_string(),
            digest: layer.digest().to_string(),
            size: i64::try_from(layer.size()).unwrap_or(i64::MAX),
            annotations: HashMap::new(),
        }
    }
}
