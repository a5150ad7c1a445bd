//! Mirrors: which host is asked, and what happens when it does not do its duty.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use axum::http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use bytes::Bytes;
use oci_spec::image::MediaType;
use tempfile::TempDir;

use super::script::{Server, answer, broken, part};
use super::{descriptor_of, noise, read};
use crate::image::{Error, Options, digest};
use crate::registry::{Network, Repository};

/// A folder in which the registry `upstream` has these mirrors.
fn hosts_dir(upstream: &str, mirrors: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join(upstream)).unwrap();
    fs::write(folder.path().join(upstream).join("hosts.toml"), mirrors).unwrap();
    folder
}

fn repository(upstream: &str, hosts_dir: &Path) -> Repository {
    let options = Options {
        plain_http: true,
        credentials: Some(("me".to_owned(), "secret".to_owned())),
        network: Arc::new(Network::new(Some(hosts_dir.to_owned()))),
    };
    Repository::new(upstream, "team/app", &options).unwrap()
}

/// Serves ranges of `blob` of the length that is asked for, from `start` on.
async fn good(blob: &Bytes) -> Server {
    let blob = blob.clone();
    Server::start(move |seen| {
        let asked = seen.header(axum::http::header::RANGE).unwrap();
        let (start, last) = asked.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        let (start, end) = (start.parse().unwrap(), last.parse::<usize>().unwrap() + 1);
        part(
            &format!("bytes {start}-{last}/{}", blob.len()),
            blob.slice(start..end),
        )
    })
    .await
}

/// An address where nobody listens.
async fn dead() -> String {
    let server = Server::start(|_| answer(200, &[], "")).await;
    let host = server.host.clone();
    server.stop().await;
    host
}

#[tokio::test]
async fn a_mirror_that_is_down_is_passed_over_and_then_left_alone() {
    let blob = noise(1000);
    let failing = Server::start(|_| answer(503, &[(RETRY_AFTER, "60")], "")).await;
    let (mirror, upstream, dead) = (good(&blob).await, good(&blob).await, dead().await);
    let text = format!(
        "[host.\"http://{dead}\"]\n[host.\"http://{}\"]\n[host.\"http://{}\"]\n",
        failing.host, mirror.host
    );
    let folder = hosts_dir(&upstream.host, &text);
    let repository = repository(&upstream.host, folder.path());
    let digest = digest::sha256_of(&blob);
    for start in [0, 100, 200] {
        let range = start..start + 50;
        let got = read(repository.range(&digest, range.clone()).await)
            .await
            .unwrap();
        assert_eq!(got, blob[range.start as usize..range.end as usize]);
    }
    assert_eq!(failing.trace().len(), 1, "one try, then it is set back");
    assert_eq!(mirror.trace().len(), 3);
    assert!(upstream.trace().is_empty());
}

#[tokio::test]
async fn a_mirror_is_told_whose_images_it_is_asked_for_and_gets_no_passwords() {
    let blob = noise(1000);
    let upstream = good(&blob).await;
    let asking = Server::start(|_| answer(401, &[(WWW_AUTHENTICATE, "Basic realm=\"m\"")], "")).await;
    let text = format!(
        "[host.\"http://{0}\"]\n[host.\"http://{0}\".header]\nx-team = \"blue\"\n",
        asking.host
    );
    let folder = hosts_dir(&upstream.host, &text);
    let digest = digest::sha256_of(&blob);
    let got = read(
        repository(&upstream.host, folder.path())
            .range(&digest, 0..50)
            .await,
    )
    .await;
    assert_eq!(got.unwrap(), blob[..50]);
    let namespace = upstream.host.replace(':', "%3A");
    assert_eq!(
        asking.trace(),
        [format!("GET /v2/team/app/blobs/{digest}?ns={namespace}")]
    );
    let seen = &asking.seen()[0];
    assert_eq!(seen.header("x-team".parse().unwrap()), Some("blue"));
    assert_eq!(seen.header(AUTHORIZATION), None);
    assert_eq!(
        upstream.trace(),
        [format!("GET /v2/team/app/blobs/{digest}")],
        "the registry itself is asked without"
    );
    assert_eq!(upstream.seen()[0].header("x-team".parse().unwrap()), None);
}

#[tokio::test]
async fn a_mirror_that_lies_about_a_blob_is_not_asked_for_it_again() {
    let (truth, lie) = (noise(1000), Bytes::from(vec![7; 1000]));
    let (mirror, upstream) = (good(&lie).await, good(&truth).await);
    let folder = hosts_dir(&upstream.host, &format!("[host.\"http://{}\"]", mirror.host));
    let repository = repository(&upstream.host, folder.path());
    let digest = digest::sha256_of(&truth);
    assert_eq!(
        read(repository.range(&digest, 0..500).await).await.unwrap(),
        lie[..500]
    );
    // Several bad chunks of one answer are told one by one.
    for start in [0, 100, 499] {
        repository.distrust(&digest, &(start..start + 1));
    }
    assert_eq!(
        read(repository.range(&digest, 0..500).await).await.unwrap(),
        truth[..500]
    );
    let other = digest::sha256_of(b"other");
    read(repository.range(&other, 0..10).await).await.unwrap();
    assert_eq!((mirror.trace().len(), upstream.trace().len()), (2, 1));

    // When all lie, all are asked again: nothing is forbidden for good.
    repository.distrust(&digest, &(0..500));
    read(repository.range(&digest, 0..500).await).await.unwrap();
    assert_eq!(mirror.trace().len() + upstream.trace().len(), 4);
}

#[tokio::test]
async fn a_body_that_breaks_goes_on_at_the_next_host() {
    let blob = noise(1000);
    let start = blob.slice(..300);
    let mirror = Server::start(move |_| {
        let header = [(axum::http::header::CONTENT_RANGE, "bytes 0-999/1000")];
        broken(206, &header, start.clone(), 1000)
    })
    .await;
    let upstream = good(&blob).await;
    let folder = hosts_dir(&upstream.host, &format!("[host.\"http://{}\"]", mirror.host));
    let repository = repository(&upstream.host, folder.path());
    let got = read(repository.range(&digest::sha256_of(&blob), 0..1000).await).await;
    assert_eq!(got.unwrap(), blob);
    assert_eq!((mirror.trace().len(), upstream.trace().len()), (1, 1));
    assert_eq!(
        upstream.seen()[0].header(axum::http::header::RANGE),
        Some("bytes=300-999")
    );
}

#[tokio::test]
async fn a_mirror_that_sends_something_else_is_passed_over() {
    let blob = noise(1000);
    let wrong = blob.clone();
    let mirror = Server::start(move |_| part("bytes 0-9/1000", wrong.slice(..10))).await;
    let upstream = good(&blob).await;
    let folder = hosts_dir(&upstream.host, &format!("[host.\"http://{}\"]", mirror.host));
    let repository = repository(&upstream.host, folder.path());
    let got = read(repository.range(&digest::sha256_of(&blob), 100..200).await).await;
    assert_eq!(got.unwrap(), blob[100..200]);
}

#[tokio::test]
async fn manifests_come_from_mirrors_that_may_tell_them_and_tell_the_truth() {
    let document = format!(
        "{{\"schemaVersion\": 2, \"mediaType\": \"{}\"}}",
        MediaType::ImageManifest
    );
    let lying = Server::start(|_| answer(200, &[], "{\"schemaVersion\": 2}")).await;
    let text = document.clone();
    let upstream = Server::start(move |_| answer(200, &[], text.clone())).await;
    let mirrors = format!("[host.\"http://{}\"]\ncapabilities = [\"pull\"]", lying.host);
    let folder = hosts_dir(&upstream.host, &mirrors);
    let repository = repository(&upstream.host, folder.path());

    let by_tag = repository.manifest("v1", None).await.unwrap();
    assert_eq!(by_tag.bytes, document.as_bytes());
    assert!(lying.trace().is_empty(), "it may not resolve tags");
    let by_digest = repository.manifest("v1", Some(&by_tag.digest)).await.unwrap();
    assert_eq!(by_digest.bytes, document.as_bytes());
    assert_eq!(lying.trace().len(), 1);
}

#[tokio::test]
async fn the_failure_that_may_pass_is_told() {
    let upstream = Server::start(|_| answer(404, &[], "")).await;
    let dead = dead().await;
    let folder = hosts_dir(&upstream.host, &format!("[host.\"http://{dead}\"]"));
    let repository = repository(&upstream.host, folder.path());
    let error = repository.blob(&descriptor_of(b"x")).await.map(drop).unwrap_err();
    assert!(matches!(error, Error::Network { .. }), "{error}");
}

#[tokio::test]
async fn hosts_that_change_are_asked_without_a_restart() {
    let blob = noise(1000);
    let (first, second) = (good(&blob).await, good(&blob).await);
    let upstream = dead().await;
    let of = |server: &Server| format!("[host.\"http://{}\"]\n", server.host);
    let folder = hosts_dir(&upstream, &of(&first));
    let repository = repository(&upstream, folder.path());
    let digest = digest::sha256_of(&blob);
    let ask = || async {
        repository.mirrors().outdate();
        let bytes = read(repository.range(&digest, 5..10).await).await.unwrap();
        assert_eq!(bytes, blob[5..10]);
    };
    ask().await;
    fs::write(folder.path().join(&upstream).join("hosts.toml"), of(&second)).unwrap();
    ask().await;
    assert_eq!((first.trace().len(), second.trace().len()), (1, 1));
    // What cannot be read changes nothing.
    fs::write(folder.path().join(&upstream).join("hosts.toml"), "host = 5").unwrap();
    ask().await;
    assert_eq!((first.trace().len(), second.trace().len()), (1, 2));
}
