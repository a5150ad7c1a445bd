//! How many requests may run at once.
//!
//! Every image has a few permits of its own and may take more from those of the node, up to a cap. So a node never
//! opens more connections than it should, one busy image can use most of them, and images whose registry hangs can
//! hold all of the node's permits without taking the last ones of an image whose registry answers.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Permits an image has for itself. Two, so that one slow answer does not stop everything.
const OWN: usize = 2;

/// Permits one image may take from the node's: a few connections fill any line, more only queue in the registry.
const SHARE_MAX: usize = 6;

/// Permits of the node: what a registry and a socket table bear without complaint.
const SHARED: usize = 32;

/// The permits that all images share.
#[derive(Clone)]
pub(crate) struct NodePermits(Arc<Semaphore>);

/// The permits one image can get.
pub(crate) struct ImagePermits {
    own: Arc<Semaphore>,
    share: Arc<Semaphore>,
    shared: NodePermits,
}

/// The right to run one request, until dropped.
pub(crate) struct Permit {
    _parts: [Option<OwnedSemaphorePermit>; 2],
}

impl NodePermits {
    /// Makes the permits of a node.
    pub(crate) fn new() -> Self {
        NodePermits(Arc::new(Semaphore::new(SHARED)))
    }

    /// Makes the permits of one more image.
    pub(crate) fn image(&self) -> ImagePermits {
        ImagePermits {
            own: Arc::new(Semaphore::new(OWN)),
            share: Arc::new(Semaphore::new(SHARE_MAX)),
            shared: self.clone(),
        }
    }
}

impl ImagePermits {
    /// Waits for a permit: one of the image's own, or one of the node's, whichever is free first.
    pub(crate) async fn acquire(&self) -> Permit {
        let shared = async {
            let share = acquire(&self.share).await;
            [Some(share), Some(acquire(&self.shared.0).await)]
        };
        tokio::select! {
            biased;
            own = acquire(&self.own) => Permit { _parts: [Some(own), None] },
            parts = shared => Permit { _parts: parts },
        }
    }
}

async fn acquire(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    semaphore
        .clone()
        .acquire_owned()
        .await
        .expect("the semaphores of this module are never closed")
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn take_all(image: &ImagePermits) -> Vec<Permit> {
        std::iter::from_fn(|| image.acquire().now_or_never()).collect()
    }

    #[test]
    fn one_image_gets_its_own_and_its_share() {
        assert_eq!(take_all(&NodePermits::new().image()).len(), OWN + SHARE_MAX);
    }

    #[test]
    fn images_that_hold_everything_leave_the_others_their_own() {
        let node = NodePermits::new();
        let greedy: Vec<_> = (0..20).map(|_| node.image()).collect();
        let held: Vec<_> = greedy.iter().map(take_all).collect();
        assert_eq!(held.iter().map(Vec::len).sum::<usize>(), SHARED + 20 * OWN);
        assert_eq!(take_all(&node.image()).len(), OWN);
        drop(held);
        assert_eq!(take_all(&node.image()).len(), OWN + SHARE_MAX);
    }
}
