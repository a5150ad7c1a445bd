//! Waiting for signals: to stop, and to go on as another program.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that SIGTERM or SIGINT cancels. Needs a tokio runtime.
pub(super) fn stop_token() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    Ok(token)
}

/// Does something each time SIGUSR2 comes, one after the other. Needs a tokio runtime, and ends with it.
pub(super) fn on_upgrade<F: Future<Output = ()> + Send + 'static>(
    mut work: impl FnMut() -> F + Send + 'static,
) -> anyhow::Result<()> {
    let mut upgrade = signal(SignalKind::user_defined2())?;
    tokio::spawn(async move {
        while upgrade.recv().await.is_some() {
            work().await;
        }
    });
    Ok(())
}
