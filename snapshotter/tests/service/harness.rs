//! A running service in a temporary folder, and the mounts it hands out.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use fuse::{ImageId, ImageStatus, Tier, TierChoice};
use proto::snapshots::snapshots_client::SnapshotsClient;
use proto::snapshots::*;
use rustix::mount::{UnmountFlags, unmount};
use snapshotter::config::Overlay;
use snapshotter::engine::Engine;
use snapshotter::image::Images;
use snapshotter::layout::Layout;
use snapshotter::mounter::{Image, MountError, Mounter};
use snapshotter::service::Service;
use snapshotter::store::Store;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// Shows every image as a folder that is made for the purpose, with a file that names its reference.
pub(crate) struct FakeMounter {
    pub(crate) root: PathBuf,
    pub(crate) mounted: Mutex<Vec<Image>>,
    pub(crate) unmounted: Mutex<Vec<ImageId>>,
    /// What was to become complete.
    pub(crate) filled: Mutex<Vec<ImageId>>,
    /// What each reclaim was to keep.
    pub(crate) reclaimed: Mutex<Vec<Vec<PathBuf>>>,
}

#[tonic::async_trait]
impl Mounter for FakeMounter {
    async fn announce(&self, _: &Image) -> Result<(), MountError> {
        Ok(())
    }

    async fn mount(&self, image: &Image) -> Result<PathBuf, MountError> {
        self.mounted.lock().unwrap().push(image.clone());
        let path = self.root.join(image.id.0.to_string());
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("reference"), &image.reference).unwrap();
        Ok(path)
    }

    async fn unmount(&self, id: ImageId) {
        self.unmounted.lock().unwrap().push(id);
    }

    async fn reclaim(&self, keep: Vec<PathBuf>) -> Result<usize, MountError> {
        self.reclaimed.lock().unwrap().push(keep);
        Ok(0)
    }

    fn fill(&self, id: ImageId) {
        self.filled.lock().unwrap().push(id);
    }

    fn data_path(&self, _id: Option<ImageId>) -> TierChoice {
        TierChoice {
            tier: Tier::Fuse,
            reason: "nothing is mounted in tests".to_owned(),
        }
    }

    fn status(&self, id: ImageId) -> Option<ImageStatus> {
        let known = self.mounted.lock().unwrap().iter().any(|image| image.id == id);
        known.then_some(ImageStatus {
            bytes_disk: 1 << 30,
            ..ImageStatus::default()
        })
    }
}

/// A service that runs until this is dropped.
pub(crate) struct Harness {
    pub(crate) client: SnapshotsClient<Channel>,
    pub(crate) mounter: Arc<FakeMounter>,
    pub(crate) engine: Engine,
    pub(crate) dir: TempDir,
    _stop: DropGuard,
}

impl Harness {
    pub(crate) async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    /// Starts on what an earlier service left in the folder.
    pub(crate) async fn start_in(dir: TempDir) -> Self {
        let layout = Layout::new(dir.path().join("root"), dir.path().join("run"));
        std::fs::create_dir_all(layout.snapshots()).unwrap();
        std::fs::create_dir_all(layout.run_dir()).unwrap();
        let mounter = Arc::new(FakeMounter {
            root: dir.path().join("images"),
            mounted: Mutex::default(),
            unmounted: Mutex::default(),
            filled: Mutex::default(),
            reclaimed: Mutex::default(),
        });
        let images = Arc::new(Images::new(Arc::clone(&mounter) as _, layout.clone()));
        let engine = Engine::new(
            Store::open(&layout.store()).unwrap(),
            layout.clone(),
            images,
            &Overlay::default(),
        );
        engine.restore().await.unwrap();
        let _ = std::fs::remove_file(layout.address());
        let listener = UnixListener::bind(layout.address()).unwrap();
        let stop = CancellationToken::new();
        let serving = tonic::transport::Server::builder()
            .add_service(SnapshotsServer::new(Service::new(engine.clone())))
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.clone().cancelled_owned());
        tokio::spawn(serving);
        let address = format!("unix:{}", layout.address().display());
        let channel = Endpoint::from_shared(address).unwrap().connect().await.unwrap();
        Self {
            client: SnapshotsClient::new(channel),
            mounter,
            engine,
            dir,
            _stop: stop.drop_guard(),
        }
    }

    pub(crate) fn snapshots_dir(&self) -> PathBuf {
        self.dir.path().join("root/snapshots")
    }

    pub(crate) async fn prepare_with(
        &self,
        key: &str,
        parent: &str,
        labels: &[(&str, &str)],
    ) -> Result<Vec<Mount>, Status> {
        let request = PrepareSnapshotRequest {
            key: key.into(),
            parent: parent.into(),
            labels: owned(labels),
            ..Default::default()
        };
        Ok(self.client.clone().prepare(request).await?.into_inner().mounts)
    }

    pub(crate) async fn prepare(&self, key: &str, parent: &str) -> Result<Vec<Mount>, Status> {
        self.prepare_with(key, parent, &[]).await
    }

    pub(crate) async fn view(&self, key: &str, parent: &str) -> Result<Vec<Mount>, Status> {
        let request = ViewSnapshotRequest {
            key: key.into(),
            parent: parent.into(),
            ..Default::default()
        };
        Ok(self.client.clone().view(request).await?.into_inner().mounts)
    }

    pub(crate) async fn mounts(&self, key: &str) -> Result<Vec<Mount>, Status> {
        let request = MountsRequest {
            key: key.into(),
            ..Default::default()
        };
        Ok(self.client.clone().mounts(request).await?.into_inner().mounts)
    }

    pub(crate) async fn commit_with(
        &self,
        name: &str,
        key: &str,
        labels: &[(&str, &str)],
    ) -> Result<(), Status> {
        let request = CommitSnapshotRequest {
            name: name.into(),
            key: key.into(),
            labels: owned(labels),
            ..Default::default()
        };
        self.client.clone().commit(request).await.map(|_| ())
    }

    pub(crate) async fn commit(&self, name: &str, key: &str) -> Result<(), Status> {
        self.commit_with(name, key, &[]).await
    }

    pub(crate) async fn remove(&self, key: &str) -> Result<(), Status> {
        let request = RemoveSnapshotRequest {
            key: key.into(),
            ..Default::default()
        };
        self.client.clone().remove(request).await.map(|_| ())
    }

    pub(crate) async fn stat(&self, key: &str) -> Result<Info, Status> {
        let request = StatSnapshotRequest {
            key: key.into(),
            ..Default::default()
        };
        let reply = self.client.clone().stat(request).await?;
        Ok(reply.into_inner().info.expect("a reply has an info"))
    }

    pub(crate) async fn update(&self, info: Info, mask: &[&str]) -> Result<Info, Status> {
        let paths: Vec<_> = mask.iter().map(|path| (*path).to_owned()).collect();
        let update_mask = (!paths.is_empty()).then_some(prost_types::FieldMask { paths });
        let request = UpdateSnapshotRequest {
            info: Some(info),
            update_mask,
            ..Default::default()
        };
        let reply = self.client.clone().update(request).await?;
        Ok(reply.into_inner().info.expect("a reply has an info"))
    }

    pub(crate) async fn usage(&self, key: &str) -> Result<UsageResponse, Status> {
        let request = UsageRequest {
            key: key.into(),
            ..Default::default()
        };
        Ok(self.client.clone().usage(request).await?.into_inner())
    }

    pub(crate) async fn cleanup(&self) {
        self.client
            .clone()
            .cleanup(CleanupRequest::default())
            .await
            .unwrap();
    }

    /// All matching snapshots, and how many messages they came in.
    pub(crate) async fn list(&self, filters: &[&str]) -> Result<(Vec<Info>, usize), Status> {
        let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
        let request = ListSnapshotsRequest {
            filters,
            ..Default::default()
        };
        let mut stream = self.client.clone().list(request).await?.into_inner();
        let (mut infos, mut count) = (Vec::new(), 0);
        while let Some(batch) = stream.message().await? {
            infos.extend(batch.info);
            count += 1;
        }
        Ok((infos, count))
    }

    /// Names of the matching snapshots, sorted.
    pub(crate) async fn names(&self, filters: &[&str]) -> Vec<String> {
        let (infos, _) = self.list(filters).await.unwrap();
        let mut names: Vec<_> = infos.into_iter().map(|info| info.name).collect();
        names.sort();
        names
    }

    pub(crate) fn mount(&self, mounts: &[Mount]) -> Mounted {
        Mounted::new(&self.snapshots_dir(), mounts)
    }

    /// Makes a committed layer: `change` works on the merged tree.
    pub(crate) async fn layer(&self, name: &str, parent: &str, change: impl FnOnce(&Path)) {
        let key = format!("extract {name}");
        let mounts = self.prepare(&key, parent).await.unwrap();
        let mounted = self.mount(&mounts);
        change(mounted.path());
        drop(mounted);
        self.commit(name, &key).await.unwrap();
    }

    /// Mounts a view.
    pub(crate) async fn look(&self, parent: &str) -> Mounted {
        let mounts = self.view(&format!("view of {parent}"), parent).await.unwrap();
        self.mount(&mounts)
    }
}

fn owned(labels: &[(&str, &str)]) -> HashMap<String, String> {
    labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// A mount that ends with this value.
pub(crate) struct Mounted {
    dir: TempDir,
}

impl Mounted {
    /// Performs a list of mounts as containerd does: overlay options are made relative to the snapshots folder, so
    /// that many lower folders fit in the one page mount(2) takes.
    fn new(snapshots: &Path, mounts: &[Mount]) -> Self {
        let [mount] = mounts else {
            panic!("one mount is expected: {mounts:?}")
        };
        let mounted = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let options = mount
            .options
            .join(",")
            .replace(&format!("{}/", snapshots.display()), "");
        let run = |arguments: &[&str]| {
            let output = Command::new("mount")
                .current_dir(snapshots)
                .env("LIBMOUNT_FORCE_MOUNT2", "always")
                .args(arguments)
                .arg(mounted.dir.path())
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "mount {arguments:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        };
        match mount.r#type.as_str() {
            "bind" => {
                run(&["--rbind", &mount.source]);
                if mount.options.iter().any(|option| option == "ro") {
                    run(&["-o", "remount,bind,ro"]);
                }
            }
            fs_type => run(&["-t", fs_type, "-o", &options, &mount.source]),
        }
        mounted
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = unmount(self.dir.path(), UnmountFlags::DETACH) {
            tracing::warn!(%error, "nothing to unmount");
        }
    }
}

/// The code of a refused call.
pub(crate) fn refused<T: std::fmt::Debug>(outcome: Result<T, Status>) -> Code {
    outcome.expect_err("the call is refused").code()
}
