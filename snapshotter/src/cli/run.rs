//! `slipwayd run`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use sd_notify::NotifyState;
use snapshotter::Daemon;
use snapshotter::daemon::Ended;
use snapshotter::keeper::{self, Held, Keeper, ProcessKeeper, SystemdKeeper};
use snapshotter::layout::Layout;
use snapshotter::memory;
use snapshotter::upgrade::{Upgrader, Versions, become_program};

use super::settings::{Settings, start_logging};
use super::{printer, runtime, signal};

/// This very program, also when its file was replaced.
const MYSELF: &str = "/proc/self/exe";

/// Where systemd listens.
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// How long work that is in the middle of a system call may take to end before another program takes its place. It is
/// work that may be cut off at any moment, as by a kill.
const REST_DEADLINE: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Serve nothing: print as JSON which versions of state this program can go on with
    #[arg(long, hide = true)]
    versions: bool,
}

/// Serves until a signal.
pub(super) fn run(settings: &Settings, arguments: &Arguments) -> anyhow::Result<()> {
    // Before anything else is opened.
    let handed = keeper::handed_over().context("cannot take what systemd hands over")?;
    let config = settings.config()?;
    if arguments.versions {
        return printer::json(&serde_json::to_value(Versions::ours())?);
    }
    start_logging(&config)?;
    memory::share_heaps();
    let runtime = runtime()?;
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let myself = program();
    let ended = runtime.block_on(async {
        let stop = signal::stop_token()?;
        let upgrader = Upgrader::new(arguments.iter().cloned(), stop.clone());
        let starting = Daemon::start(&config, |layout| find_keeper(layout, handed));
        let daemon = starting.await.context("slipwayd cannot start")?;
        let hand_over = daemon.hand_over(&upgrader);
        signal::on_upgrade(move || {
            let (hand_over, myself) = (hand_over.clone(), myself.clone());
            async move {
                if let Err(error) = hand_over.begin(&myself).await {
                    tracing::error!(%error, "not upgraded");
                }
            }
        })?;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            address = %daemon.address().display(),
            root = %config.root.display(),
            "ready"
        );
        notify(NotifyState::Ready);
        let ended = daemon.run(upgrader, stop).await;
        if !matches!(ended, Ok(Ended::Replaced { .. })) {
            notify(NotifyState::Stopping);
        }
        anyhow::Ok(ended?)
    })?;
    match ended {
        Ended::Unmounted => {
            tracing::info!("stopped: no container stands on an image, so nothing is left mounted");
        }
        Ended::Kept { users } => tracing::info!(
            users,
            "stopped: containers stand on images, so these wait with the keeper for the next start"
        ),
        Ended::Replaced { program, handed } => {
            tracing::info!(program = %program.display(), "going on as another program");
            runtime.shutdown_timeout(REST_DEADLINE);
            let error = become_program(&program, Path::new(MYSELF), &arguments, &handed);
            return Err(error).context("cannot start again; hint: start slipwayd, containers wait for it");
        }
    }
    Ok(())
}

/// Where this program was started from: after an upgrade of its package the new one lies there.
fn program() -> PathBuf {
    let named = std::env::args_os().next().map(PathBuf::from);
    named
        .filter(|named| named.components().count() > 1)
        .and_then(|named| std::path::absolute(named).ok())
        .or_else(|| std::env::current_exe().ok())
        .unwrap_or_else(|| MYSELF.into())
}

/// systemd where it keeps descriptors, else a process of our own.
fn find_keeper(layout: &Layout, handed: Vec<Held>) -> Result<Keeper, keeper::Error> {
    if let Some(socket) = std::env::var_os(NOTIFY_SOCKET) {
        let systemd = SystemdKeeper::new(&socket, handed);
        if systemd.has_store() {
            return Ok(Keeper::Systemd(systemd));
        }
        tracing::warn!(
            "systemd keeps no descriptors for this unit, so a process does, which ends with the unit; \
             hint: set FileDescriptorStoreMax=16 in the unit"
        );
    }
    ProcessKeeper::find_or_start(&layout.keeper(), Path::new(MYSELF)).map(Keeper::Process)
}

/// Tells systemd; without it there is nobody to tell.
fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "cannot notify systemd");
    }
}
