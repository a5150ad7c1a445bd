//! `slipwayd mount`: one image in one folder, without containerd.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use fuse::{ImageId, ImageSpec, Server, ServerConfig};
use proto::image::{ImageSource, Location, Login, Platform};
use proto::lazy;
use snapshotter::config::Registry;
use snapshotter::memory;
use snapshotter::mounter::{network, options};
use snapshotter::resolve::resolve;
use tempfile::TempDir;

use super::settings::{Settings, start_logging};
use super::{printer, runtime, signal};

/// Where passing state lies: the chunk cache must not be on tmpfs, which /tmp often is.
const TEMP_PARENT: &str = "/var/tmp";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[arg(help = "Image: docker://host/repo:tag, oci:DIR[:TAG] or oci-archive:FILE[:TAG]")]
    image: Location,
    /// Empty folder to show it in
    dir: PathBuf,
    /// Keep fetched data here for the next time [default: forget it]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
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

/// Mounts, waits for a signal, unmounts.
pub(super) fn run(settings: &Settings, arguments: &Arguments) -> anyhow::Result<()> {
    let config = settings.config()?;
    start_logging(&config)?;
    memory::share_heaps();
    let mountpoint = free_folder(&arguments.dir)?;
    let runtime = runtime()?;
    let passing =
        TempDir::with_prefix_in("slipwayd-", TEMP_PARENT).context("cannot make a temporary folder")?;
    let bootstrap = passing.path().join("image.boot");
    // From here on a signal ends this in order, also while a registry is slow: the temporary folder goes.
    let stop = runtime.block_on(async { signal::stop_token() })?;
    let source = runtime.block_on(async {
        tokio::select! {
            source = fetch(&config.registry, arguments, &bootstrap) => source,
            () = stop.cancelled() => anyhow::bail!("interrupted before the image was mounted"),
        }
    })?;
    let server_config = ServerConfig {
        mountpoint: mountpoint.clone(),
        cache_dir: arguments
            .cache_dir
            .clone()
            .unwrap_or_else(|| passing.path().join("cache")),
        // What is in the way of others is the caller's to know.
        cache_limits: fuse::CacheLimits::default(),
        // One image alone is always shown by FUSE, which needs no root.
        erofs_dir: passing.path().join("mnt"),
        data_path: fuse::DataPath::Fuse,
        threads: config.fuse.threads,
        read_deadline: config.fuse.read_deadline,
    };
    std::fs::create_dir_all(&server_config.cache_dir).context("cannot make the cache folder")?;
    let image = ImageSpec {
        id: ImageId(1),
        bootstrap,
        source: Arc::new(source),
    };
    let server = Server::mount_image(&server_config, runtime.handle().clone(), image)
        .with_context(|| not_mounted(&arguments.image, &mountpoint))?;
    printer::note(&format!(
        "{} is at {}; Ctrl-C ends it",
        arguments.image,
        mountpoint.display()
    ));
    runtime.block_on(stop.cancelled());
    Ok(server.unmount()?)
}

/// What to say when the mount fails, and what users other than root need for it.
fn not_mounted(image: &Location, mountpoint: &Path) -> String {
    let hint = match rustix::process::geteuid().is_root() {
        true => "",
        false => {
            "; hint: without root this needs fusermount3 (Debian: fuse3) and a /dev/fuse that everybody may open \
             (mode 0666, as udev makes it)"
        }
    };
    format!("cannot mount {image} on {}{hint}", mountpoint.display())
}

/// The folder's full path, if it is an empty folder: what is in it would be hidden, and may be another mount.
fn free_folder(dir: &Path) -> anyhow::Result<PathBuf> {
    let list = || {
        let mut entries = std::fs::read_dir(dir)?;
        Ok((entries.next().is_none(), dir.canonicalize()?))
    };
    let (problem, hint) = match list() {
        Ok((true, path)) => return Ok(path),
        Ok((false, _)) => (
            "it is not empty".to_owned(),
            "name an empty folder, or unmount what is mounted there",
        ),
        Err::<_, io::Error>(error) => {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => "create the folder first",
                // Of a mount whose server is gone.
                io::ErrorKind::NotConnected => {
                    "unmount what died there: `umount` as root, or `fusermount3 -u`"
                }
                _ => "name an empty folder",
            };
            (error.to_string(), hint)
        }
    };
    anyhow::bail!("cannot mount on {}: {problem}; hint: {hint}", dir.display())
}

/// Opens the image and writes its bootstrap to a file.
async fn fetch(registry: &Registry, arguments: &Arguments, bootstrap: &Path) -> anyhow::Result<ImageSource> {
    let mut options = options(&arguments.image, registry, &network(registry));
    options.plain_http |= arguments.plain_http;
    options.credentials = arguments.creds.clone().map(Into::into);
    let source = ImageSource::open(&arguments.image, &options).await?;
    let platform = arguments.platform.clone().unwrap_or_else(Platform::host);
    let resolved = resolve(&source, &platform).await?;
    let manifest = resolved.lazy.with_context(|| {
        format!(
            "{} is no RAFS image; hint: convert it with `slipway convert`",
            arguments.image
        )
    })?;
    let out = File::create(bootstrap).context("cannot make a file for the bootstrap")?;
    lazy::fetch_bootstrap(&source, &manifest, &out).await?;
    Ok(source)
}
