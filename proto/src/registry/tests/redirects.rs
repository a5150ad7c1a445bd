//! Registries that send us to a store for blobs.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::header::{AUTHORIZATION, COOKIE, LOCATION, WWW_AUTHENTICATE};
use bytes::Bytes;

use super::script::{Server, answer, part};
use super::{noise, read};
use crate::image::{Error, Options, digest};
use crate::registry::{Network, Repository, redirect};

const TOKEN: &str = "Bearer t";

/// A store that serves the first ten bytes of `blob`, while it is good.
async fn store(blob: &Bytes, is_good: &Arc<AtomicBool>) -> Server {
    let (blob, is_good) = (blob.slice(..10), Arc::clone(is_good));
    Server::start(move |_| match is_good.load(Ordering::SeqCst) {
        true => part("bytes 0-9/1000", blob.clone()),
        false => answer(403, &[], "expired"),
    })
    .await
}

/// A registry that wants a token and the header of hosts.toml, and sends on to `target`.
async fn registry(target: String) -> (Server, Repository, tempfile::TempDir) {
    let server = Server::start(move |seen| {
        let host = seen.headers["host"].to_str().unwrap();
        if seen.path.starts_with("/token") {
            return answer(200, &[], r#"{"token": "t", "expires_in": 300}"#);
        }
        if seen.header(AUTHORIZATION) != Some(TOKEN) {
            let realm = format!("Bearer realm=\"http://{host}/token\"");
            return answer(401, &[(WWW_AUTHENTICATE, &realm)], "");
        }
        assert_eq!(seen.headers["x-secret"], "hunter2");
        answer(307, &[(LOCATION, &target)], "")
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join(&server.host);
    fs::create_dir(&folder).unwrap();
    let text = format!(
        "server = \"http://{}\"\n[header]\nx-secret = \"hunter2\"\ncookie = \"c=1\"\n",
        server.host
    );
    fs::write(folder.join("hosts.toml"), text).unwrap();
    let options = Options {
        plain_http: true,
        credentials: Some(("me".to_owned(), "secret".to_owned())),
        network: Arc::new(Network::new(Some(dir.path().to_owned()))),
    };
    let repository = Repository::new(&server.host, "team/app", &options).unwrap();
    (server, repository, dir)
}

#[tokio::test]
async fn a_store_is_asked_again_without_the_registry_and_gets_no_secret() {
    let (blob, is_good) = (noise(1000), Arc::new(AtomicBool::new(true)));
    let store = store(&blob, &is_good).await;
    let (registry, repository, _dir) =
        registry(format!("http://{}/b?Expires=99999999999&sig=x", store.host)).await;
    let digest = digest::sha256_of(&blob);
    for _ in 0..3 {
        assert_eq!(
            read(repository.range(&digest, 0..10).await).await.unwrap(),
            blob[..10]
        );
    }
    let asked = registry.trace();
    assert_eq!(asked.len(), 3, "without a token, for one, with it: {asked:?}");
    assert_eq!(store.trace(), ["GET /b?Expires=99999999999&sig=x"; 3]);
    for seen in store.seen() {
        assert!(seen.header(AUTHORIZATION).is_none() && seen.header(COOKIE).is_none());
        assert!(!seen.headers.contains_key("x-secret"), "{:?}", seen.headers);
    }
}

#[tokio::test]
async fn an_address_that_is_no_longer_good_costs_one_request() {
    let (blob, is_good) = (noise(1000), Arc::new(AtomicBool::new(true)));
    let store = store(&blob, &is_good).await;
    let (registry, repository, _dir) = registry(format!("http://{}/b", store.host)).await;
    let digest = digest::sha256_of(&blob);
    read(repository.range(&digest, 0..10).await).await.unwrap();
    is_good.store(false, Ordering::SeqCst);
    let error = repository.range(&digest, 0..10).await.map(drop).unwrap_err();
    assert!(
        matches!(&error, Error::Unauthorized { registry, .. } if *registry == store.host),
        "{error}"
    );
    assert_eq!((registry.trace().len(), store.trace().len()), (4, 3));
    is_good.store(true, Ordering::SeqCst);
    assert_eq!(
        read(repository.range(&digest, 0..10).await).await.unwrap(),
        blob[..10]
    );
}

#[tokio::test]
async fn an_address_that_is_over_is_not_kept() {
    let (blob, is_good) = (noise(1000), Arc::new(AtomicBool::new(true)));
    let store = store(&blob, &is_good).await;
    let (registry, repository, _dir) = registry(format!("http://{}/b?Expires=1", store.host)).await;
    for _ in 0..2 {
        read(repository.range(&digest::sha256_of(&blob), 0..10).await)
            .await
            .unwrap();
    }
    assert_eq!(registry.trace().len(), 4);
}

#[tokio::test]
async fn redirects_that_go_round_or_down_are_refused() {
    let (registry, repository, _dir) = registry("/again".to_owned()).await;
    let error = repository
        .range(&digest::sha256_of(b"x"), 0..10)
        .await
        .map(drop)
        .unwrap_err();
    assert!(error.to_string().contains("too many redirects"), "{error}");
    assert!(registry.trace().len() < 12);

    let to = |from: &str, location: &str| {
        let response = axum::http::Response::builder()
            .status(302)
            .header(LOCATION, location);
        let response = reqwest::Response::from(response.body("").unwrap());
        redirect::target(&response, &from.parse().unwrap(), &reqwest::Method::GET)
    };
    assert!(to("https://a.example/", "https://b.example/").unwrap().is_some());
    assert!(to("http://a.example/", "//b.example/x").unwrap().is_some());
    for bad in [
        "http://a.example/",
        "ftp://a.example/",
        "file:///etc/passwd",
        "https://",
    ] {
        assert!(to("https://a.example/", bad).is_err(), "{bad}");
    }
}
