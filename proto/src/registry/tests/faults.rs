//! Answers that are wrong, cut short, or late.

use axum::body::Body;
use axum::http::header::{CONTENT_RANGE, CONTENT_TYPE, RANGE, RETRY_AFTER};
use bytes::Bytes;
use oci_spec::image::MediaType;

use super::script::{Seen, Server, answer, broken, part};
use super::{descriptor_of, noise, read, repository};
use crate::image::manifest::MANIFEST_LEN_MAX;
use crate::image::{Error, digest};

#[tokio::test]
async fn a_part_must_be_the_part_asked_for() {
    let blob = noise(1000);
    for content_range in [
        "bytes 0-99/1000",
        "bytes 100-198/1000",
        "bytes 100-200/1000",
        "rubbish",
    ] {
        let blob = blob.clone();
        let server = Server::start(move |_| part(content_range, blob.slice(100..200))).await;
        let repository = repository(&server.host, None);
        let digest = digest::sha256_of(b"any");
        let result = read(repository.range(&digest, 100..200).await).await;
        assert!(
            matches!(result, Err(Error::Invalid { .. })),
            "{content_range}: {result:?}"
        );
    }
    let server = Server::start(|_| part("bytes 100-149/150", noise(50))).await;
    let result = repository(&server.host, None)
        .range(&digest::sha256_of(b"any"), 100..200)
        .await;
    assert!(matches!(
        result,
        Err(Error::LengthMismatch {
            expected: 100,
            actual: 50,
            ..
        })
    ));
}

#[tokio::test]
async fn a_registry_without_ranges_is_used_for_small_offsets_only() {
    let blob = noise(3 << 20);
    let whole = blob.clone();
    let server = Server::start(move |_| answer(200, &[], whole.clone())).await;
    let repository = repository(&server.host, None);
    let digest = digest::sha256_of(&blob);
    let start = read(repository.range(&digest, 500_000..900_000).await)
        .await
        .unwrap();
    assert_eq!(start, blob[500_000..900_000]);
    let error = repository
        .range(&digest, (2 << 20)..(3 << 20))
        .await
        .map(drop)
        .unwrap_err();
    assert!(
        matches!(&error, Error::Invalid { reason, .. } if reason.contains("Range")),
        "{error}"
    );
}

#[tokio::test]
async fn a_body_that_breaks_goes_on_where_it_broke() {
    let blob = noise(300_000);
    let whole = blob.clone();
    let server = Server::start(move |seen: &Seen| match seen.count {
        0 => broken(200, &[], whole.slice(..100_000), whole.len()),
        1 => broken(
            206,
            &[(CONTENT_RANGE, "bytes 100000-299999/300000")],
            whole.slice(100_000..250_000),
            200_000,
        ),
        _ => part("bytes 250000-299999/300000", whole.slice(250_000..)),
    })
    .await;
    let repository = repository(&server.host, None);
    assert_eq!(
        read(repository.blob(&descriptor_of(&blob)).await).await.unwrap(),
        blob
    );
    let ranges: Vec<_> = server
        .seen()
        .iter()
        .map(|seen| seen.header(RANGE).map(str::to_owned))
        .collect();
    assert_eq!(
        ranges,
        [
            None,
            Some("bytes=100000-299999".to_owned()),
            Some("bytes=250000-299999".to_owned())
        ]
    );
}

#[tokio::test]
async fn a_body_that_is_always_short_is_an_error() {
    let server = Server::start(|seen: &Seen| {
        let headers: &[_] = if seen.header(RANGE).is_some() {
            &[(CONTENT_RANGE, "bytes 0-999/1000")]
        } else {
            &[]
        };
        broken(
            if headers.is_empty() { 200 } else { 206 },
            headers,
            Bytes::new(),
            1000,
        )
    })
    .await;
    let repository = repository(&server.host, None);
    let descriptor = descriptor_of(&noise(1000));
    let error = read(repository.blob(&descriptor).await).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert_eq!(server.seen().len(), 3);
    let error = read(repository.range(descriptor.digest(), 0..1000).await)
        .await
        .unwrap_err();
    assert!(error.is_retryable(), "{error}");
}

#[tokio::test]
async fn length_and_digest_of_whole_blobs_are_checked() {
    let blob = noise(1000);
    let descriptor = descriptor_of(&blob);
    let mut flipped = blob.to_vec();
    flipped[999] ^= 1;
    let server = Server::start(move |_| answer(200, &[], flipped.clone())).await;
    let result = read(repository(&server.host, None).blob(&descriptor).await).await;
    assert!(matches!(result, Err(Error::DigestMismatch { .. })), "{result:?}");

    // Without a length of its own, too much shows only at the end.
    let long = noise(1001);
    let server = Server::start(move |_| {
        answer(
            200,
            &[],
            Body::from_stream(futures::stream::iter([Ok::<_, std::io::Error>(long.clone())])),
        )
    })
    .await;
    let result = read(repository(&server.host, None).blob(&descriptor).await).await;
    assert!(
        matches!(result, Err(Error::LengthMismatch { expected: 1000, .. })),
        "{result:?}"
    );
    let server = Server::start(|_| answer(200, &[], noise(999))).await;
    let result = repository(&server.host, None).blob(&descriptor).await;
    assert!(matches!(result, Err(Error::LengthMismatch { actual: 999, .. })));
}

#[tokio::test]
async fn passing_failures_are_met_with_patience_that_ends() {
    let blob = noise(10);
    let descriptor = descriptor_of(&blob);
    let server = Server::start(move |seen: &Seen| match seen.count {
        0 => answer(503, &[], ""),
        1 => answer(429, &[(RETRY_AFTER, "0")], ""),
        _ => answer(200, &[], blob.clone()),
    })
    .await;
    assert_eq!(
        read(repository(&server.host, None).blob(&descriptor).await)
            .await
            .unwrap()
            .len(),
        10
    );

    let server = Server::start(|_| {
        answer(
            502,
            &[],
            "{\"errors\": [{\"code\": \"UNKNOWN\", \"message\": \"disk\\u0007 full\"}]}",
        )
    })
    .await;
    let error = repository(&server.host, None)
        .blob(&descriptor)
        .await
        .map(drop)
        .unwrap_err();
    assert!(
        matches!(&error, Error::Server { status: 502, message, .. } if message == "disk full"),
        "{error}"
    );
    assert_eq!(server.seen().len(), 3);

    let server = Server::start(|_| answer(429, &[(RETRY_AFTER, "30")], "")).await;
    let error = repository(&server.host, None)
        .blob(&descriptor)
        .await
        .map(drop)
        .unwrap_err();
    assert_eq!(
        (
            error.is_retryable(),
            error.retry_after().map(|wait| wait.as_secs())
        ),
        (true, Some(30))
    );
    assert_eq!(server.seen().len(), 1, "a long wait is the caller's");
}

#[tokio::test]
async fn nobody_there_is_a_network_error() {
    let server = Server::start(|_| answer(200, &[], "")).await;
    let host = server.host.clone();
    server.stop().await;
    let error = repository(&host, None)
        .blob(&descriptor_of(b"x"))
        .await
        .map(drop)
        .unwrap_err();
    assert!(
        matches!(error, Error::Network { .. }) && error.is_retryable(),
        "{error}"
    );
}

#[tokio::test]
async fn manifests_are_checked_and_bounded() {
    let document: &[u8] = br#"{"schemaVersion": 2, "config": {}, "layers": []}"#;
    let typed = |kind: &'static str| move |_: &Seen| answer(200, &[(CONTENT_TYPE, kind)], document);
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    let cases = [
        ("application/json", MediaType::ImageManifest),
        (docker, MediaType::Other(docker.to_owned())),
    ];
    for (kind, expected) in cases {
        let server = Server::start(typed(kind)).await;
        let raw = repository(&server.host, None).manifest("v1", None).await.unwrap();
        assert_eq!(
            (raw.media_type, raw.digest),
            (expected, digest::sha256_of(document))
        );
    }
    let server = Server::start(typed("application/vnd.oci.image.index.v1+json; charset=utf-8")).await;
    let repository_ = repository(&server.host, None);
    assert!(repository_.manifest("v1", None).await.unwrap().is_index());
    let other = digest::sha256_of(b"other");
    assert!(matches!(
        repository_.manifest("v1", Some(&other)).await,
        Err(Error::DigestMismatch { .. })
    ));
    let seen = server.seen();
    assert_eq!(seen[0].headers["accept"].to_str().unwrap().split(", ").count(), 4);

    let server = Server::start(|_| answer(200, &[], vec![b' '; MANIFEST_LEN_MAX as usize + 1])).await;
    let result = repository(&server.host, None).manifest("v1", None).await;
    assert!(matches!(result, Err(Error::TooLarge { .. })));
    let server = Server::start(|_| answer(200, &[], "<html>")).await;
    let result = repository(&server.host, None).manifest("v1", None).await;
    assert!(matches!(result, Err(Error::Invalid { .. })));
}

#[tokio::test]
async fn ranges_share_a_connection() {
    let blob = noise(1000);
    let whole = blob.clone();
    let server = Server::start(move |_| part("bytes 100-199/1000", whole.slice(100..200))).await;
    let repository = repository(&server.host, None);
    for _ in 0..20 {
        let range = repository.range(&digest::sha256_of(b"any"), 100..200).await;
        assert_eq!(read(range).await.unwrap(), blob[100..200]);
    }
    let peers: std::collections::HashSet<_> = server.seen().iter().map(|seen| seen.peer).collect();
    // A connection may come back just after the next request has started.
    assert!(peers.len() <= 5, "{peers:?}");
}

#[tokio::test]
async fn a_length_is_found_without_the_header_too() {
    let server = Server::start(|seen: &Seen| match seen.method.as_str() {
        "HEAD" => answer(
            200,
            &[],
            Body::from_stream(futures::stream::empty::<Result<Bytes, std::io::Error>>()),
        ),
        _ => part("bytes 0-0/12345", noise(1)),
    })
    .await;
    let len = repository(&server.host, None)
        .blob_len(&digest::sha256_of(b"x"))
        .await
        .unwrap();
    assert_eq!(len, 12345);
}
