//! Images are mounted once, failures are not sticky, one bad image stops nothing.

use std::collections::HashSet;
use std::time::SystemTime;

use fuse::Tier;
use tokio::sync::Barrier;

use super::*;
use crate::store::{Kind, Labels, Origin, Role, SnapshotId, Usage};

/// Remembers what it was asked; fails for the references it was told to fail for.
#[derive(Default)]
struct FakeMounter {
    failing: Mutex<HashSet<String>>,
    mounted: Mutex<Vec<ImageId>>,
    unmounted: Mutex<Vec<ImageId>>,
    kept: Mutex<Vec<PathBuf>>,
}

#[tonic::async_trait]
impl Mounter for FakeMounter {
    async fn announce(&self, _: &Image) -> Result<(), MountError> {
        Ok(())
    }

    async fn mount(&self, image: &Image) -> Result<PathBuf, MountError> {
        self.mounted.lock().unwrap().push(image.id);
        // Gives the others a chance to come in between.
        tokio::task::yield_now().await;
        if self.failing.lock().unwrap().contains(&image.reference) {
            return Err(MountError::Stopping);
        }
        Ok(PathBuf::from(format!("/images/{}", image.id.0)))
    }

    async fn unmount(&self, id: ImageId) {
        self.unmounted.lock().unwrap().push(id);
    }

    async fn reclaim(&self, keep: Vec<PathBuf>) -> Result<usize, MountError> {
        *self.kept.lock().unwrap() = keep;
        Ok(0)
    }

    fn fill(&self, _id: ImageId) {}

    fn data_path(&self, _id: Option<ImageId>) -> TierChoice {
        TierChoice {
            tier: Tier::Fuse,
            reason: "nothing is mounted in tests".to_owned(),
        }
    }

    fn status(&self, _id: ImageId) -> Option<ImageStatus> {
        None
    }
}

fn bootstrap(image: u32) -> Snapshot {
    let now = SystemTime::now();
    Snapshot {
        id: SnapshotId(image.into()),
        name: format!("boot{image}"),
        parent: None,
        kind: Kind::Committed,
        role: Role::Bootstrap,
        origin: Some(Origin {
            image: format!("host/app:{image}"),
            manifest: None,
            layer: None,
        }),
        remote: None,
        labels: Labels::new(),
        created: now,
        updated: now,
        usage: Usage::default(),
        image: Some(image),
        bootstrap_digest: None,
    }
}

fn images() -> (Arc<FakeMounter>, Arc<Images>) {
    let mounter = Arc::new(FakeMounter::default());
    let images = Images::new(Arc::clone(&mounter) as _, Layout::new("/root", "/run"));
    (mounter, Arc::new(images))
}

#[tokio::test]
async fn many_callers_share_one_mount() {
    let (mounter, images) = images();
    let barrier = Arc::new(Barrier::new(16));
    let calls = (0..16).map(|_| {
        let (images, barrier) = (Arc::clone(&images), Arc::clone(&barrier));
        async move {
            barrier.wait().await;
            images.serve(&bootstrap(7)).await.unwrap()
        }
    });
    let paths = futures::future::join_all(calls).await;
    assert!(paths.iter().all(|path| path == std::path::Path::new("/images/7")));
    assert_eq!(*mounter.mounted.lock().unwrap(), [ImageId(7)]);
}

#[tokio::test]
async fn a_failure_is_tried_again() {
    let (mounter, images) = images();
    mounter.failing.lock().unwrap().insert("host/app:1".into());
    let error = images.serve(&bootstrap(1)).await.unwrap_err();
    assert!(error.to_string().contains("host/app:1"), "{error}");
    assert_eq!(images.served(ImageId(1)), None);
    mounter.failing.lock().unwrap().clear();
    images.serve(&bootstrap(1)).await.unwrap();
    assert!(images.served(ImageId(1)).is_some());
}

#[tokio::test]
async fn one_bad_image_does_not_stop_the_others() {
    let (mounter, images) = images();
    mounter.failing.lock().unwrap().insert("host/app:2".into());
    let known: Vec<_> = (1..=6).map(|id| (ImageId(id), bootstrap(id))).collect();
    images.restore(&known).await;
    let served: Vec<_> = (1..=6)
        .filter(|id| images.served(ImageId(*id)).is_some())
        .collect();
    assert_eq!(served, [1, 3, 4, 5, 6]);
}

#[tokio::test]
async fn forgotten_images_are_unmounted_once() {
    let (mounter, images) = images();
    images.serve(&bootstrap(1)).await.unwrap();
    images.forget(ImageId(1)).await;
    images.forget(ImageId(1)).await;
    assert_eq!(*mounter.unmounted.lock().unwrap(), [ImageId(1)]);
    assert!(images.ids().is_empty());
}

#[tokio::test]
async fn only_bootstraps_are_images() {
    let (_, images) = images();
    let ordinary = Snapshot {
        image: None,
        ..bootstrap(1)
    };
    assert!(matches!(
        images.serve(&ordinary).await,
        Err(Error::NoBootstrap { .. })
    ));
}

#[tokio::test]
async fn known_images_keep_their_data_served_or_not() {
    let (mounter, images) = images();
    images.serve(&bootstrap(1)).await.unwrap();
    let known: Vec<_> = (1..=2).map(|id| (ImageId(id), bootstrap(id))).collect();
    images.reclaim(&known).await.unwrap();
    let kept = [1, 2].map(|id| PathBuf::from(format!("/root/snapshots/{id}/fs/image/image.boot")));
    assert_eq!(*mounter.kept.lock().unwrap(), kept);
}
