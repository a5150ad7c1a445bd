use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use futures::Stream;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

use super::*;

/// Answers `Stat` and `List`; everything else is not implemented.
struct Two;

fn info(name: &str) -> Info {
    Info {
        name: name.to_owned(),
        kind: Kind::Committed as i32,
        ..Default::default()
    }
}

type Unused<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Snapshots for Two {
    type ListStream = std::pin::Pin<Box<dyn Stream<Item = Result<ListSnapshotsResponse, Status>> + Send>>;

    async fn stat(&self, request: Request<StatSnapshotRequest>) -> Unused<StatSnapshotResponse> {
        Ok(Response::new(StatSnapshotResponse {
            info: Some(info(&request.into_inner().key)),
        }))
    }

    async fn list(&self, _: Request<ListSnapshotsRequest>) -> Unused<Self::ListStream> {
        let batch = |name| {
            Ok(ListSnapshotsResponse {
                info: vec![info(name)],
            })
        };
        Ok(Response::new(Box::pin(futures::stream::iter([
            batch("a"),
            batch("b"),
        ]))))
    }

    async fn prepare(&self, _: Request<PrepareSnapshotRequest>) -> Unused<PrepareSnapshotResponse> {
        let mounts = vec![Mount {
            r#type: "overlay".into(),
            ..Default::default()
        }];
        Ok(Response::new(PrepareSnapshotResponse { mounts }))
    }

    async fn view(&self, _: Request<ViewSnapshotRequest>) -> Unused<ViewSnapshotResponse> {
        Err(Status::unimplemented("view"))
    }

    async fn mounts(&self, _: Request<MountsRequest>) -> Unused<MountsResponse> {
        Err(Status::unimplemented("mounts"))
    }

    async fn commit(&self, _: Request<CommitSnapshotRequest>) -> Unused<()> {
        Err(Status::already_exists("commit"))
    }

    async fn remove(&self, _: Request<RemoveSnapshotRequest>) -> Unused<()> {
        Ok(Response::new(()))
    }

    async fn update(&self, _: Request<UpdateSnapshotRequest>) -> Unused<UpdateSnapshotResponse> {
        Err(Status::unimplemented("update"))
    }

    async fn usage(&self, _: Request<UsageRequest>) -> Unused<UsageResponse> {
        Err(Status::unimplemented("usage"))
    }

    async fn cleanup(&self, _: Request<CleanupRequest>) -> Unused<()> {
        Err(Status::unimplemented("cleanup"))
    }
}

#[tokio::test]
async fn containerds_own_client_understands_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("snapshots.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let server = tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(SnapshotsServer::new(Two).max_decoding_message_size(MESSAGE_LEN_MAX))
            .serve_with_incoming(UnixListenerStream::new(listener)),
    );
    let endpoint = tonic::transport::Endpoint::from_shared(format!("unix:{}", path.display())).unwrap();
    let mut client = SnapshotsClient::new(endpoint.connect().await.unwrap());

    let stat = StatSnapshotRequest {
        key: "k".into(),
        ..Default::default()
    };
    assert_eq!(
        client.stat(stat).await.unwrap().into_inner().info,
        Some(info("k"))
    );
    let mut list = client
        .list(ListSnapshotsRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(list.message().await.unwrap().unwrap().info, [info("a")]);
    assert_eq!(list.message().await.unwrap().unwrap().info, [info("b")]);
    assert_eq!(list.message().await.unwrap(), None);
    let prepared = client
        .prepare(PrepareSnapshotRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(prepared.mounts[0].r#type, "overlay");
    client.remove(RemoveSnapshotRequest::default()).await.unwrap();
    let refused = client.commit(CommitSnapshotRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::AlreadyExists);
    drop((list, client));
    server.abort();
    assert!(server.await.unwrap_err().is_cancelled());
}
