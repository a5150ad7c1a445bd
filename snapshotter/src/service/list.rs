//! `List`: all snapshots in batches, a transaction of its own for each, so that nothing waits for a slow reader.

use futures::Stream;
use proto::snapshots::ListSnapshotsResponse;
use tonic::Status;

use super::convert;
use crate::engine::Engine;
use crate::filter::{Filters, Subject};
use crate::store::{Snapshot, SnapshotId};

/// Snapshots in one message: containerd's own batch size.
const BATCH_COUNT_MAX: usize = 100;

struct Walk {
    engine: Engine,
    filters: Filters,
    after: SnapshotId,
}

/// Streams the snapshots that match.
pub(super) fn batches(
    engine: Engine,
    filters: Filters,
) -> impl Stream<Item = Result<ListSnapshotsResponse, Status>> + Send {
    let walk = Walk {
        engine,
        filters,
        after: SnapshotId(0),
    };
    futures::stream::try_unfold(Some(walk), |walk| async move {
        let Some(mut walk) = walk else { return Ok(None) };
        loop {
            let page = walk.engine.page(walk.after, BATCH_COUNT_MAX).await?;
            let is_last = page.len() < BATCH_COUNT_MAX;
            walk.after = page.last().map_or(walk.after, |snapshot| snapshot.id);
            let wanted = page
                .into_iter()
                .filter(|snapshot| walk.filters.matches(&subject(snapshot)));
            let batch = ListSnapshotsResponse {
                info: wanted.map(convert::info).collect(),
            };
            match (is_last, batch.info.is_empty()) {
                (true, true) => return Ok(None),
                (true, false) => return Ok(Some((batch, None))),
                (false, false) => return Ok(Some((batch, Some(walk)))),
                (false, true) => {}
            }
        }
    })
}

fn subject(snapshot: &Snapshot) -> Subject<'_> {
    Subject {
        name: &snapshot.name,
        parent: snapshot.parent_name(),
        kind: snapshot.kind,
        labels: &snapshot.labels,
    }
}
