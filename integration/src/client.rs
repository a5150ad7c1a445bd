//! The snapshots service asked directly, as containerd asks it, without the time containerd takes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use proto::lazy::{BOOTSTRAP_ANNOTATION, BOOTSTRAP_PATH};
use proto::snapshots::snapshots_client::SnapshotsClient;
use proto::snapshots::{
    CleanupRequest, CommitSnapshotRequest, Mount, PrepareSnapshotRequest, RemoveSnapshotRequest,
};
use snapshotter::label;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};

/// A client that blocks.
pub struct Client {
    service: SnapshotsClient<Channel>,
    runtime: Runtime,
}

impl Client {
    /// Connects to the daemon that listens on a socket.
    pub fn connect(socket: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start a runtime")?;
        let address = format!("unix:{}", socket.display());
        let endpoint = Endpoint::from_shared(address).context("name the socket")?;
        let channel = runtime
            .block_on(endpoint.connect())
            .context("connect to the daemon")?;
        Ok(Client {
            service: SnapshotsClient::new(channel),
            runtime,
        })
    }

    /// Brings the snapshot `name` in, which holds the bootstrap of the image that is at `reference`.
    pub fn load(&self, name: &str, reference: &str, bootstrap: &[u8]) -> Result<()> {
        let key = format!("extract {name}");
        let labels = [
            (label::SNAPSHOT_REF, name),
            (label::CRI_IMAGE_REF, reference),
            (BOOTSTRAP_ANNOTATION, "true"),
        ];
        let mounts = self.prepare(&key, "", &labels)?;
        let folder = mounts.first().context("a place to unpack to")?;
        let path = Path::new(&folder.source).join(BOOTSTRAP_PATH);
        std::fs::create_dir_all(path.parent().context("the bootstrap is in a folder")?)
            .context("create the bootstrap's folder")?;
        std::fs::write(path, bootstrap).context("write a bootstrap")?;
        let request = CommitSnapshotRequest {
            name: name.to_owned(),
            key,
            ..Default::default()
        };
        let committing = async { self.service.clone().commit(request).await };
        self.runtime.block_on(committing).context("commit").map(drop)
    }

    /// Prepares a container's snapshot on an image; gives the image's folder.
    pub fn container(&self, key: &str, image: &str) -> Result<PathBuf> {
        let mounts = self.prepare(key, image, &[])?;
        let mut options = mounts.iter().flat_map(|mount| &mount.options);
        let lower = options.find_map(|option| option.strip_prefix("lowerdir="));
        Ok(PathBuf::from(lower.context("a container stands on something")?))
    }

    /// Prepares a container's snapshot on an image, with labels; gives the list of its mounts.
    pub fn container_with(&self, key: &str, image: &str, labels: &[(&str, &str)]) -> Result<Vec<Mount>> {
        self.prepare(key, image, labels)
    }

    /// Removes a snapshot.
    pub fn remove(&self, key: &str) -> Result<()> {
        let request = RemoveSnapshotRequest {
            key: key.to_owned(),
            ..Default::default()
        };
        let removing = async { self.service.clone().remove(request).await };
        self.runtime.block_on(removing).context("remove").map(drop)
    }

    /// Has what was removed cleaned up.
    pub fn cleanup(&self) -> Result<()> {
        let cleaning = async { self.service.clone().cleanup(CleanupRequest::default()).await };
        self.runtime.block_on(cleaning).context("clean up").map(drop)
    }

    fn prepare(&self, key: &str, parent: &str, labels: &[(&str, &str)]) -> Result<Vec<Mount>> {
        let labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let request = PrepareSnapshotRequest {
            key: key.to_owned(),
            parent: parent.to_owned(),
            labels: labels.collect::<HashMap<_, _>>(),
            ..Default::default()
        };
        let preparing = async { self.service.clone().prepare(request).await };
        let answer = self.runtime.block_on(preparing);
        Ok(answer
            .with_context(|| format!("prepare {key}"))?
            .into_inner()
            .mounts)
    }
}
