//! Work that no call waits for. It belongs to the daemon, which ends it before it ends itself.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The daemon's work in the background. Cheap to clone; all clones share the work.
#[derive(Debug, Clone, Default)]
pub struct Background {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Background {
    /// Begins some work. It is dropped half done when the daemon ends.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            // Nobody asks whether it came to its end.
            let _ = stop.run_until_cancelled_owned(work).await;
        });
    }

    /// Waits until all work that was begun is done.
    pub async fn settled(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }

    /// Cancels all work, and waits until it has let go of what it held.
    pub async fn end(&self) {
        self.stop.cancel();
        self.settled().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test]
    async fn settling_waits_for_the_end() {
        let background = Background::default();
        for _ in 0..2 {
            let done = Arc::new(AtomicBool::new(false));
            let told = Arc::clone(&done);
            background.spawn(async move {
                tokio::task::yield_now().await;
                told.store(true, Ordering::SeqCst);
            });
            background.settled().await;
            assert!(done.load(Ordering::SeqCst));
        }
    }

    #[tokio::test]
    async fn ending_drops_what_never_ends() {
        let background = Background::default();
        let held = Arc::new(());
        let holder = Arc::clone(&held);
        background.spawn(async move {
            let _holder = holder;
            std::future::pending::<()>().await;
        });
        background.end().await;
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
