//! `slipwayd run`.

use std::path::Path;

use anyhow::Context;
use sd_notify::NotifyState;
use snapshotter::Daemon;
use snapshotter::daemon::Ended;
use snapshotter::keeper::{self, Held, Keeper, ProcessKeeper, SystemdKeeper};
use snapshotter::layout::Layout;

use super::settings::{Settings, start_logging};
use super::{runtime, signal};

/// This very program, also when its file was replaced.
const MYSELF: &str = "/proc/self/exe";

/// Where systemd listens.
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// Serves until a signal.
pub(super) fn run(settings: &Settings) -> anyhow::Result<()> {
    // Before anything else is opened.
    let handed = keeper::handed_over().context("cannot take what systemd hands over")?;
    let config = settings.config()?;
    start_logging(&config)?;
    runtime()?.block_on(async {
        let stop = signal::stop_token()?;
        let starting = Daemon::start(&config, |layout| find_keeper(layout, handed));
        let daemon = starting.await.context("slipwayd cannot start")?;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            address = %daemon.address().display(),
            root = %config.root.display(),
            "ready"
        );
        notify(NotifyState::Ready);
        let outcome = daemon.run(stop.clone()).await;
        notify(NotifyState::Stopping);
        match outcome? {
            Ended::Unmounted => {
                tracing::info!("stopped: no container stands on an image, so nothing is left mounted")
            }
            Ended::Kept { users } => tracing::info!(
                users,
                "stopped: containers stand on images, so these wait with the keeper for the next start"
            ),
        }
        Ok(())
    })
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
