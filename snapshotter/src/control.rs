//! The control service: what operators ask the running daemon.

use std::collections::HashMap;
use std::time::{Instant, UNIX_EPOCH};

use fuse::{ImageId, Tier};
use proto::control::control_server::Control;
use proto::control::{DataPath, Image, ImagesRequest, ImagesResponse, StatusRequest, StatusResponse};
use tonic::{Request, Response, Status};

use crate::engine::Engine;
use crate::layout::Layout;
use crate::store::{Kind, Role, Snapshot, SnapshotId};
use crate::{Result, plan};

/// Snapshots read at once.
const PAGE_COUNT_MAX: usize = 500;

/// Answers operators.
pub struct ControlService {
    engine: Engine,
    layout: Layout,
    started: Instant,
}

impl ControlService {
    /// Answers for this engine, from now on.
    pub fn new(engine: Engine, layout: Layout) -> Self {
        Self {
            engine,
            layout,
            started: Instant::now(),
        }
    }

    async fn all(&self) -> Result<Vec<Snapshot>> {
        let mut all: Vec<Snapshot> = Vec::new();
        loop {
            let after = all.last().map_or(SnapshotId(0), |snapshot| snapshot.id);
            let page = self.engine.page(after, PAGE_COUNT_MAX).await?;
            let is_last = page.len() < PAGE_COUNT_MAX;
            all.extend(page);
            if is_last {
                return Ok(all);
            }
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
        let snapshot_count = self.all().await?.len();
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
        }))
    }

    async fn images(&self, _request: Request<ImagesRequest>) -> Result<Response<ImagesResponse>, Status> {
        let known = self.engine.known_images().await?;
        let mounts = mount_counts(&self.all().await?);
        let images = known
            .iter()
            .map(|(id, bootstrap)| self.describe(*id, bootstrap, &mounts))
            .collect();
        Ok(Response::new(ImagesResponse { images }))
    }
}

/// Containers and views by the bootstrap snapshot they stand on.
fn mount_counts(all: &[Snapshot]) -> HashMap<SnapshotId, u64> {
    let by_id: HashMap<_, _> = all.iter().map(|snapshot| (snapshot.id, snapshot)).collect();
    let mut counts = HashMap::new();
    for user in all
        .iter()
        .filter(|user| user.kind != Kind::Committed && user.role == Role::Ordinary)
    {
        let ancestors =
            std::iter::successors(Some(user), |child| by_id.get(&child.parent.as_ref()?.id).copied());
        let parents: Vec<_> = ancestors.skip(1).cloned().collect();
        if let Ok(plan::Stack {
            image: Some(image), ..
        }) = plan::stack(Role::Ordinary, &parents)
        {
            *counts.entry(image).or_insert(0) += 1;
        }
    }
    counts
}
