use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

use super::control_server::{Control, ControlServer};
use super::*;

struct Fixed;

#[tonic::async_trait]
impl Control for Fixed {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(StatusResponse {
            version: "0.1.0".into(),
            pid: 7,
            ..Default::default()
        }))
    }

    async fn images(&self, _: Request<ImagesRequest>) -> Result<Response<ImagesResponse>, Status> {
        Err(Status::unavailable("store is busy"))
    }

    async fn upgrade(&self, request: Request<UpgradeRequest>) -> Result<Response<UpgradeResponse>, Status> {
        Err(Status::failed_precondition(request.into_inner().program))
    }
}

#[tokio::test]
async fn client_talks_to_server_over_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let server = tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(ControlServer::new(Fixed))
            .serve_with_incoming(UnixListenerStream::new(listener)),
    );
    let mut client = connect(&path).await.unwrap();
    let status = client.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.version.as_str(), status.pid), ("0.1.0", 7));
    let refused = client.images(ImagesRequest {}).await.unwrap_err();
    assert_eq!(refused.message(), "store is busy");
    let program = "/other".to_owned();
    let refused = client.upgrade(UpgradeRequest { program }).await.unwrap_err();
    assert_eq!(refused.message(), "/other");
    server.abort();
    assert!(server.await.unwrap_err().is_cancelled());
}

#[tokio::test]
async fn nobody_listening_is_an_error_that_names_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("absent.sock");
    let error = connect(&path).await.unwrap_err();
    assert!(error.to_string().contains("absent.sock"), "{error}");
}
