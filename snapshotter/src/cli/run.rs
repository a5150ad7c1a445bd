//! `slipwayd run`.

use anyhow::Context;
use sd_notify::NotifyState;
use snapshotter::Daemon;

use super::settings::{Settings, start_logging};
use super::{runtime, signal};

/// Serves until a signal.
pub(super) fn run(settings: &Settings) -> anyhow::Result<()> {
    let config = settings.config()?;
    start_logging(&config)?;
    runtime()?.block_on(async {
        let stop = signal::stop_token()?;
        let daemon = Daemon::start(&config).await.context("slipwayd cannot start")?;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            address = %daemon.address().display(),
            root = %config.root.display(),
            "ready"
        );
        notify(NotifyState::Ready);
        let outcome = daemon.run(stop.clone()).await;
        notify(NotifyState::Stopping);
        tracing::info!("stopped");
        Ok(outcome?)
    })
}

/// Tells systemd; without it there is nobody to tell.
fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "cannot notify systemd");
    }
}
