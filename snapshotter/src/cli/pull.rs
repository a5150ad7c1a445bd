//! `slipwayd pull`.

mod bars;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use proto::image::{Location, Login, Platform};
use snapshotter::mounter::{network, options};
use snapshotter::pull::{Options, Progress, Pulled, Silent, pull};

use self::bars::Bars;
use super::settings::{Settings, start_logging};
use super::{printer, runtime, signal};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Image, such as registry.example/app:1
    image: Location,
    /// Containerd's socket
    #[arg(
        long,
        env = "CONTAINERD_ADDRESS",
        value_name = "SOCKET",
        default_value = "/run/containerd/containerd.sock"
    )]
    containerd_address: PathBuf,
    /// Containerd's namespace
    #[arg(long, short, env = "CONTAINERD_NAMESPACE", default_value = "default")]
    namespace: String,
    /// Name of the snapshotter in containerd's configuration
    #[arg(long, env = "CONTAINERD_SNAPSHOTTER", default_value = "slipway")]
    snapshotter: String,
    /// Which image of an index, such as linux/arm64 [default: this machine's]
    #[arg(long)]
    platform: Option<Platform>,
    /// Reach the registry without TLS
    #[arg(long)]
    plain_http: bool,
    /// User and password for the registry [default: as docker, podman and skopeo keep them]
    #[arg(long, value_name = "USER[:PASSWORD]")]
    creds: Option<Login>,
}

/// Pulls and says what came of it.
pub(super) fn run(settings: &Settings, arguments: Arguments) -> anyhow::Result<()> {
    let config = settings.config()?;
    start_logging(&config)?;
    let mut source = options(&arguments.image, &config.registry, &network(&config.registry));
    source.plain_http |= arguments.plain_http;
    source.credentials = arguments.creds.map(Into::into);
    let options = Options {
        address: arguments.containerd_address,
        namespace: arguments.namespace,
        snapshotter: arguments.snapshotter,
        source,
        platform: arguments.platform.unwrap_or_else(Platform::host),
    };
    let progress: Arc<dyn Progress> = if std::io::stderr().is_terminal() {
        Arc::new(Bars::new())
    } else {
        Arc::new(Silent)
    };
    let pulled = runtime()?.block_on(async {
        let stop = signal::stop_token()?;
        anyhow::Ok(pull(&arguments.image, &options, progress, &stop).await?)
    })?;
    let Pulled {
        name,
        digest,
        remote_count,
        layer_count,
    } = pulled;
    printer::note(&format!(
        "{remote_count} of {layer_count} layers stay in the registry"
    ));
    printer::data(&format!("{name} {digest}\n"))
}
