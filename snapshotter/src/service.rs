//! The snapshots service as containerd calls it: messages in, [`Engine`] calls, messages out.

mod convert;
mod list;

use std::pin::Pin;

use futures::Stream;
use proto::snapshots::{
    CleanupRequest, CommitSnapshotRequest, ListSnapshotsRequest, ListSnapshotsResponse, MountsRequest,
    MountsResponse, PrepareSnapshotRequest, PrepareSnapshotResponse, RemoveSnapshotRequest, Snapshots,
    StatSnapshotRequest, StatSnapshotResponse, UpdateSnapshotRequest, UpdateSnapshotResponse, UsageRequest,
    UsageResponse, ViewSnapshotRequest, ViewSnapshotResponse,
};
use tonic::{Request, Response, Status};

use crate::engine::Engine;
use crate::filter::Filters;
use crate::{Error, label};

/// Answers containerd.
#[derive(Clone)]
pub struct Service {
    engine: Engine,
}

impl Service {
    /// Answers from this engine.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

type ListStream = Pin<Box<dyn Stream<Item = Result<ListSnapshotsResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Snapshots for Service {
    type ListStream = ListStream;

    async fn prepare(
        &self,
        request: Request<PrepareSnapshotRequest>,
    ) -> Result<Response<PrepareSnapshotResponse>, Status> {
        let request = request.into_inner();
        let labels = label::from_request(request.labels);
        let mounts = self.engine.prepare(request.key, request.parent, labels).await?;
        Ok(Response::new(PrepareSnapshotResponse { mounts }))
    }

    async fn view(
        &self,
        request: Request<ViewSnapshotRequest>,
    ) -> Result<Response<ViewSnapshotResponse>, Status> {
        let request = request.into_inner();
        let labels = label::from_request(request.labels);
        let mounts = self.engine.view(request.key, request.parent, labels).await?;
        Ok(Response::new(ViewSnapshotResponse { mounts }))
    }

    async fn mounts(&self, request: Request<MountsRequest>) -> Result<Response<MountsResponse>, Status> {
        let mounts = self.engine.mounts(request.into_inner().key).await?;
        Ok(Response::new(MountsResponse { mounts }))
    }

    async fn commit(&self, request: Request<CommitSnapshotRequest>) -> Result<Response<()>, Status> {
        let request = request.into_inner();
        let labels = label::from_request(request.labels);
        self.engine.commit(request.key, request.name, labels).await?;
        Ok(Response::new(()))
    }

    async fn remove(&self, request: Request<RemoveSnapshotRequest>) -> Result<Response<()>, Status> {
        self.engine.remove(request.into_inner().key).await?;
        Ok(Response::new(()))
    }

    async fn stat(
        &self,
        request: Request<StatSnapshotRequest>,
    ) -> Result<Response<StatSnapshotResponse>, Status> {
        let snapshot = self.engine.stat(request.into_inner().key).await?;
        Ok(Response::new(StatSnapshotResponse {
            info: Some(convert::info(snapshot)),
        }))
    }

    async fn update(
        &self,
        request: Request<UpdateSnapshotRequest>,
    ) -> Result<Response<UpdateSnapshotResponse>, Status> {
        let request = request.into_inner();
        let info = request.info.ok_or_else(|| Error::Invalid {
            field: "info",
            reason: "it is missing".to_owned(),
        })?;
        let name = info.name.clone();
        let paths = request.update_mask.map(|mask| mask.paths).unwrap_or_default();
        let change = convert::label_change(info, &paths)?;
        let snapshot = self.engine.update(name, change).await?;
        Ok(Response::new(UpdateSnapshotResponse {
            info: Some(convert::info(snapshot)),
        }))
    }

    async fn list(
        &self,
        request: Request<ListSnapshotsRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let filters = Filters::parse(&request.into_inner().filters).map_err(Error::from)?;
        Ok(Response::new(Box::pin(list::batches(
            self.engine.clone(),
            filters,
        ))))
    }

    async fn usage(&self, request: Request<UsageRequest>) -> Result<Response<UsageResponse>, Status> {
        let usage = self.engine.usage(request.into_inner().key).await?;
        Ok(Response::new(convert::usage(usage)))
    }

    async fn cleanup(&self, _request: Request<CleanupRequest>) -> Result<Response<()>, Status> {
        self.engine.cleanup().await?;
        Ok(Response::new(()))
    }
}
