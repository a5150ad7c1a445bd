//! The control service: what operators ask the running daemon.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Instant, UNIX_EPOCH};

use fuse::{CacheMeter, ImageId, Tier};
use proto::control::control_server::Control;
use proto::control::{
    Cache, DataPath, Image, ImagesRequest, ImagesResponse, StatusRequest, StatusResponse, UpgradeRequest,
    UpgradeResponse,
};
use tonic::{Request, Response, Status};

use crate::Result;
use crate::daemon::HandOver;
use crate::engine::Engine;
use crate::layout::Layout;
use crate::store::{Snapshot, SnapshotId};

/// Answers operators.
pub struct ControlService {
    engine: Engine,
    layout: Layout,
    cache: CacheMeter,
    hand_over: HandOver,
    started: Instant,
    start: u64,
}

impl ControlService {
    /// Answers for this engine, from now on.
    pub fn new(engine: Engine, layout: Layout, cache: CacheMeter, hand_over: HandOver) -> Self {
        Self {
            engine,
            layout,
            cache,
            hand_over,
            started: Instant::now(),
            start: UNIX_EPOCH
                .elapsed()
                .ok()
                .and_then(|elapsed| u64::try_from(elapsed.as_nanos()).ok())
                .unwrap_or_default(),
        }
    }

    fn describe(&self, id: ImageId, bootstrap: &Snapshot, mounts: &HashMap<SnapshotId, u64>) -> Image {
        let numbers = self.engine.images().status(id).unwrap_or_default();
        let since = self
            .engine
            .images()
            .served(id)
            .and_then(|served| served.since.duration_since(UNIX_EPOCH).ok());
        let origin = bootstrap.origin.as_ref();
        let choice = since.map(|_| self.engine.images().data_path(Some(id)));
        Image {
            id: id.0.into(),
            reference: origin.map(|origin| origin.image.clone()).unwrap_or_default(),
            manifest_digest: origin
                .and_then(|origin| origin.manifest.clone())
                .unwrap_or_default(),
            bootstrap_digest: bootstrap.bootstrap_digest.clone().unwrap_or_default(),
            total_bytes: numbers.bytes_total,
            local_bytes: numbers.bytes_local,
            fetched_bytes: numbers.bytes_fetched,
            needed_bytes: numbers.bytes_needed,
            demand_bytes: numbers.bytes_demand,
            hint_bytes: numbers.bytes_hint,
            fill_bytes: numbers.bytes_fill,
            blocked_microseconds: u64::try_from(numbers.blocked.as_micros()).unwrap_or(u64::MAX),
            request_count: numbers.requests,
            read_error_count: numbers.read_errors,
            mount_count: mounts.get(&bootstrap.id).copied().unwrap_or(0),
            served_since_unix_seconds: since
                .and_then(|since| i64::try_from(since.as_secs()).ok())
                .unwrap_or(0),
            data_path: choice
                .as_ref()
                .map_or(DataPath::Unspecified, |choice| data_path(choice.tier))
                .into(),
            data_path_reason: choice.map(|choice| choice.reason).unwrap_or_default(),
            disk_bytes: numbers.bytes_disk,
            cache_error_count: numbers.cache_errors,
            checked_bytes: numbers.bytes_checked,
        }
    }
}

fn data_path(tier: Tier) -> DataPath {
    match tier {
        Tier::Erofs => DataPath::Erofs,
        Tier::Fuse => DataPath::Fuse,
    }
}

#[tonic::async_trait]
impl Control for ControlService {
    async fn status(&self, _request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let snapshot_count = self.engine.all().await?.len();
        let cache = self.cache.status();
        let choice = self.engine.images().data_path(None);
        Ok(Response::new(StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: self.started.elapsed().as_secs(),
            data_path: data_path(choice.tier).into(),
            data_path_reason: choice.reason,
            fuse_mountpoint: self.layout.fuse().display().to_string(),
            state_root: self.layout.root().display().to_string(),
            snapshot_count: u64::try_from(snapshot_count).unwrap_or(u64::MAX),
            start: self.start,
            cache: Some(Cache {
                used_bytes: cache.bytes_used,
                max_bytes: if cache.bytes_max == u64::MAX {
                    0
                } else {
                    cache.bytes_max
                },
                free_bytes: cache.bytes_free,
                evicted_bytes: cache.bytes_evicted,
                refused_bytes: cache.bytes_refused,
                write_error_count: cache.write_errors,
            }),
        }))
    }

    async fn images(&self, _request: Request<ImagesRequest>) -> Result<Response<ImagesResponse>, Status> {
        let known = self.engine.known_images().await?;
        let mounts = self.engine.mount_counts().await?;
        let images = known
            .iter()
            .map(|(id, bootstrap)| self.describe(*id, bootstrap, &mounts))
            .collect();
        Ok(Response::new(ImagesResponse { images }))
    }

    async fn upgrade(&self, request: Request<UpgradeRequest>) -> Result<Response<UpgradeResponse>, Status> {
        let program = request.into_inner().program;
        let versions = self.hand_over.begin(Path::new(&program)).await;
        let versions = versions.map_err(|error| Status::failed_precondition(error.to_string()))?;
        Ok(Response::new(UpgradeResponse {
            version: versions.version,
        }))
    }
}
