//! Uploads whose chunks get lost.

use std::sync::{Arc, Mutex};

use axum::http::header::{CONTENT_RANGE, LOCATION, RANGE};
use bytes::{Bytes, BytesMut};

use super::script::{Seen, Server, answer};
use super::{descriptor_of, noise, repository};
use crate::image::Error;

const SESSION: &str = "/v2/team/app/blobs/uploads/7?state=abc";

/// A registry that stores what it gets; its third request (the first chunk) fails, before or after storing.
fn forgetful(
    received: &Arc<Mutex<BytesMut>>,
    stores_first: bool,
) -> impl Fn(&Seen) -> axum::response::Response + use<> {
    let received = Arc::clone(received);
    move |seen| {
        let mut received = received.lock().unwrap();
        match seen.method.as_str() {
            "HEAD" => answer(404, &[], ""),
            "POST" => answer(202, &[(LOCATION, SESSION)], ""),
            "PATCH" if seen.count == 1 => {
                if stores_first {
                    received.extend_from_slice(&seen.body);
                }
                answer(502, &[], "")
            }
            "PATCH" => {
                let start: usize = seen
                    .header(CONTENT_RANGE)
                    .unwrap()
                    .split('-')
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap();
                assert_eq!(start, received.len());
                received.extend_from_slice(&seen.body);
                answer(202, &[(LOCATION, SESSION)], "")
            }
            "GET" if received.is_empty() => answer(204, &[(LOCATION, SESSION)], ""),
            "GET" => answer(
                204,
                &[(LOCATION, SESSION), (RANGE, &format!("0-{}", received.len() - 1))],
                "",
            ),
            "PUT" => {
                assert!(
                    seen.path.starts_with(&format!("{SESSION}&digest=sha256%3A")),
                    "{}",
                    seen.path
                );
                received.extend_from_slice(&seen.body);
                answer(201, &[], "")
            }
            method => panic!("unexpected {method}"),
        }
    }
}

#[tokio::test]
async fn a_lost_chunk_is_sent_again_and_a_stored_one_is_not() {
    let blob = noise((33 << 20) + 5);
    for stores_first in [false, true] {
        let received = Arc::new(Mutex::new(BytesMut::new()));
        let server = Server::start(forgetful(&received, stores_first)).await;
        let mut upload = repository(&server.host, None).start_upload();
        upload.write(&blob).await.unwrap();
        upload.finish(descriptor_of(&blob).digest()).await.unwrap();
        assert!(*received.lock().unwrap() == blob, "stored first: {stores_first}");
    }
}

#[tokio::test]
async fn a_small_blob_goes_in_one_piece_and_only_when_it_is_missing() {
    let received = Arc::new(Mutex::new(BytesMut::new()));
    let server = Server::start(forgetful(&received, false)).await;
    let digest = repository(&server.host, None)
        .put_blob(Bytes::from_static(b"small"))
        .await
        .unwrap();
    assert_eq!(&*received.lock().unwrap(), b"small".as_slice());
    let methods: Vec<_> = server.seen().iter().map(|seen| seen.method.clone()).collect();
    assert_eq!(methods, ["HEAD", "POST", "PUT"]);

    let server = Server::start(|_| answer(200, &[], "")).await;
    assert_eq!(
        repository(&server.host, None)
            .put_blob(Bytes::from_static(b"small"))
            .await
            .unwrap(),
        digest
    );
    assert_eq!(server.trace(), [format!("HEAD /v2/team/app/blobs/{digest}")]);
}

#[tokio::test]
async fn a_registry_that_restarts_costs_a_push_time_and_no_more() {
    let received = Arc::new(Mutex::new(BytesMut::new()));
    let stored = forgetful(&received, false);
    // One failure more than reads are patient with.
    let server = Server::start(move |seen: &Seen| match (seen.method.as_str(), seen.count) {
        ("POST", 1..=3) => answer(503, &[], ""),
        _ => stored(seen),
    })
    .await;
    let repository = repository(&server.host, None);
    repository.put_blob(Bytes::from_static(b"small")).await.unwrap();
    assert_eq!(&*received.lock().unwrap(), b"small".as_slice());
}

#[tokio::test]
async fn a_refused_push_is_told() {
    let denied = "{\"errors\": [{\"code\": \"DENIED\", \"message\": \"read only\"}]}";
    let server = Server::start(move |_| answer(403, &[], denied)).await;
    let error = repository(&server.host, None)
        .put_blob(Bytes::from_static(b"x"))
        .await
        .unwrap_err();
    assert!(matches!(&error, Error::Unauthorized { .. }), "{error}");
    let server =
        Server::start(move |seen: &Seen| answer(if seen.method == "HEAD" { 404 } else { 403 }, &[], denied))
            .await;
    let error = repository(&server.host, None)
        .put_blob(Bytes::from_static(b"x"))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Unauthorized { reason, .. } if reason == "read only"),
        "{error}"
    );
}

#[tokio::test]
async fn a_lost_closing_request_is_repeated() {
    for len in [10, (16 << 20) + 1] {
        let blob = noise(len);
        let received = Arc::new(Mutex::new(BytesMut::new()));
        let (log, failed) = (Arc::clone(&received), Arc::new(Mutex::new(false)));
        let server = Server::start(move |seen: &Seen| match seen.method.as_str() {
            "HEAD" => answer(404, &[], ""),
            "PUT" if !std::mem::replace(&mut *failed.lock().unwrap(), true) => answer(503, &[], ""),
            "PUT" | "PATCH" => {
                log.lock().unwrap().extend_from_slice(&seen.body);
                answer(202, &[(LOCATION, SESSION)], "")
            }
            _ => answer(202, &[(LOCATION, SESSION)], ""),
        })
        .await;
        let mut upload = repository(&server.host, None).start_upload();
        upload.write(&blob).await.unwrap();
        upload.finish(descriptor_of(&blob).digest()).await.unwrap();
        assert!(*received.lock().unwrap() == blob, "{len}");
    }
}
