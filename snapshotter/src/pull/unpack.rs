//! Bringing the layers in, from the bottom up.

use std::collections::HashMap;
use std::sync::Arc;

use containerd_client::services::v1::ApplyRequest;
use containerd_client::services::v1::diff_client::DiffClient;
use containerd_client::types::Mount;
use proto::snapshots::snapshots_client::SnapshotsClient;
use proto::snapshots::{
    CommitSnapshotRequest, PrepareSnapshotRequest, RemoveSnapshotRequest, StatSnapshotRequest,
};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;
use tonic::transport::Channel;

use super::client::{called, unique};
use super::content::{self, Blob, Body};
use super::{Error, Layer, LayerState, Pull, plan};
use crate::label;

/// Layers downloaded at the same time: containerd's own default.
const DOWNLOAD_COUNT_MAX: usize = 3;

type Download = AbortOnDropHandle<Result<(), Error>>;

/// Brings in all layers that are missing. Returns how many of the image's layers stay in the registry.
pub(super) async fn unpack(pull: &Pull<'_>, layers: &[Layer]) -> Result<usize, Error> {
    let unpacker = Unpacker {
        pull,
        layers,
        client: SnapshotsClient::new(pull.containerd.channel.clone()),
    };
    let present_count = unpacker.present_count().await?;
    for index in 0..present_count {
        pull.progress.layer(index, LayerState::Present);
    }
    let mut downloads = unpacker.start_downloads(present_count);
    for index in present_count..layers.len() {
        unpacker.layer(index, downloads.remove(&index)).await?;
    }
    Ok(layers.iter().filter(|layer| unpacker.is_data(layer)).count())
}

struct Unpacker<'a> {
    pull: &'a Pull<'a>,
    layers: &'a [Layer],
    client: SnapshotsClient<Channel>,
}

impl Unpacker<'_> {
    /// Whether a layer is data of a RAFS image.
    fn is_data(&self, layer: &Layer) -> bool {
        let lazy = self.pull.resolved.lazy.as_ref();
        lazy.is_some_and(|lazy| lazy.blobs.contains(&layer.descriptor))
    }

    /// How many layers, counted from the bottom, are there. Children hold their parents, so the topmost tells.
    async fn present_count(&self) -> Result<usize, Error> {
        for count in (1..=self.layers.len()).rev() {
            if self.exists(&self.layers[count - 1].chain_id).await? {
                return Ok(count);
            }
        }
        Ok(0)
    }

    /// Starts to download the layers that the snapshotter cannot take over.
    fn start_downloads(&self, first: usize) -> HashMap<usize, Download> {
        let permits = Arc::new(Semaphore::new(DOWNLOAD_COUNT_MAX));
        let missing = self.layers.iter().enumerate().skip(first);
        missing
            .filter(|(_, layer)| !self.is_data(layer))
            .map(|(index, _)| (index, self.download(index, Arc::clone(&permits))))
            .collect()
    }

    fn download(&self, index: usize, permits: Arc<Semaphore>) -> Download {
        let descriptor = self.layers[index].descriptor.clone();
        let (source, containerd) = (self.pull.source.clone(), self.pull.containerd.clone());
        let progress = Arc::clone(&self.pull.progress);
        let blob = Blob {
            digest: descriptor.digest().to_string(),
            len: descriptor.size(),
            labels: [plan::source_label(self.pull.reference)].into(),
        };
        let task = async move {
            // The semaphore is never closed.
            let _permit = permits.acquire().await;
            let seen = move |len| progress.layer(index, LayerState::Downloading(len));
            content::store(
                &containerd,
                blob,
                &Body::Remote(source, Box::new(descriptor)),
                seen,
            )
            .await
        };
        AbortOnDropHandle::new(tokio::spawn(task))
    }

    async fn layer(&self, index: usize, download: Option<Download>) -> Result<(), Error> {
        let layer = &self.layers[index];
        let key = format!("extract-{} {}", unique(), layer.chain_id);
        let Some(mounts) = self.prepare(&key, index).await? else {
            self.pull.progress.layer(index, LayerState::Remote);
            return Ok(());
        };
        // The snapshotter may decline a layer that was thought to stay remote.
        let download = download.unwrap_or_else(|| self.download(index, Arc::new(Semaphore::new(1))));
        let outcome = self.fill(&key, index, download, mounts).await;
        if outcome.is_err() {
            // Only tidying up: the snapshot ends with the lease anyway.
            let _ = self.remove(&key).await;
        }
        outcome
    }

    async fn fill(
        &self,
        key: &str,
        index: usize,
        download: Download,
        mounts: Vec<Mount>,
    ) -> Result<(), Error> {
        let layer = &self.layers[index];
        download.await.unwrap_or(Err(Error::Interrupted))?;
        self.pull.progress.layer(index, LayerState::Unpacking);
        let request = ApplyRequest {
            diff: Some(self.pull.descriptor(&layer.descriptor)),
            mounts,
            ..ApplyRequest::default()
        };
        let mut client = DiffClient::new(self.pull.containerd.channel.clone());
        let reply = client
            .apply(self.pull.containerd.request(request))
            .await
            .map_err(called("unpack a layer"))?;
        let found = reply.into_inner().applied.unwrap_or_default().digest;
        if found != layer.diff_id {
            let (layer, wanted) = (layer.descriptor.digest().to_string(), layer.diff_id.clone());
            return Err(Error::DiffId { layer, wanted, found });
        }
        self.commit(key, &layer.chain_id).await?;
        self.pull.progress.layer(index, LayerState::Unpacked);
        Ok(())
    }

    /// Prepares a layer. `None`: the snapshotter has it, nothing is to be unpacked.
    async fn prepare(&self, key: &str, index: usize) -> Result<Option<Vec<Mount>>, Error> {
        let parent = index
            .checked_sub(1)
            .map(|below| self.layers[below].chain_id.clone());
        let image = self.pull.reference.to_string();
        let manifest = self.pull.resolved.raw.digest.as_ref();
        let request = PrepareSnapshotRequest {
            snapshotter: self.pull.options.snapshotter.clone(),
            key: key.to_owned(),
            parent: parent.unwrap_or_default(),
            labels: plan::snapshot_labels(&image, manifest, self.layers, index),
        };
        match self
            .client
            .clone()
            .prepare(self.pull.containerd.request(request))
            .await
        {
            Ok(reply) => Ok(Some(reply.into_inner().mounts)),
            Err(status)
                if status.code() == Code::AlreadyExists
                    && self.exists(&self.layers[index].chain_id).await? =>
            {
                Ok(None)
            }
            Err(status) => Err(called("prepare a layer")(status)),
        }
    }

    async fn commit(&self, key: &str, chain_id: &str) -> Result<(), Error> {
        let request = CommitSnapshotRequest {
            snapshotter: self.pull.options.snapshotter.clone(),
            name: chain_id.to_owned(),
            key: key.to_owned(),
            labels: [(label::SNAPSHOT_REF.to_owned(), chain_id.to_owned())].into(),
        };
        match self
            .client
            .clone()
            .commit(self.pull.containerd.request(request))
            .await
        {
            // Another pull of the same layer was quicker.
            Err(status) if status.code() == Code::AlreadyExists => self.remove(key).await,
            reply => reply.map(drop).map_err(called("commit a layer")),
        }
    }

    async fn remove(&self, key: &str) -> Result<(), Error> {
        let request = RemoveSnapshotRequest {
            snapshotter: self.pull.options.snapshotter.clone(),
            key: key.to_owned(),
        };
        let reply = self
            .client
            .clone()
            .remove(self.pull.containerd.request(request))
            .await;
        reply.map(drop).map_err(called("remove a snapshot"))
    }

    async fn exists(&self, chain_id: &str) -> Result<bool, Error> {
        let snapshotter = self.pull.options.snapshotter.clone();
        let request = StatSnapshotRequest {
            snapshotter,
            key: chain_id.to_owned(),
        };
        match self
            .client
            .clone()
            .stat(self.pull.containerd.request(request))
            .await
        {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::NotFound => Ok(false),
            Err(status) if status.message().contains("snapshotter not loaded") => {
                Err(Error::NoSnapshotter(self.pull.options.snapshotter.clone()))
            }
            Err(status) => Err(called("look for a snapshot")(status)),
        }
    }
}
