//! What every store has to do, and what is done about those that do not.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use axum::http::header::{AUTHORIZATION, RANGE};
use bytes::Bytes;
use rstest::rstest;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tempfile::TempDir;
use tower::ServiceExt;

use super::*;
use crate::image::digest::sha256_of;
use crate::registry::tests::script::{Server, answer, part};
use crate::registry::tests::{noise, read};

/// Tells a child of a test which store to ask.
const STORE: &str = "SLIPWAY_TEST_STORE";

const NGINX: &str = "/usr/sbin/nginx";
/// How long nginx may take to listen, on a busy machine.
const START_WAIT: Duration = Duration::from_secs(60);

/// A running nginx that serves a folder. Dropped, it is gone.
struct Nginx {
    process: Child,
    port: u16,
    _dir: TempDir,
}

impl Nginx {
    fn start(www: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let text = format!(
            "user root; daemon off; master_process off; pid {0}/pid; error_log {0}/log; events {{}}\n\
             http {{ access_log off; client_body_temp_path {0}/t1; proxy_temp_path {0}/t2; fastcgi_temp_path {0}/t3;\n\
             uwsgi_temp_path {0}/t4; scgi_temp_path {0}/t5;\n\
             server {{ listen 127.0.0.1:{port}; root {1}; }} }}\n",
            dir.path().display(),
            www.display()
        );
        std::fs::write(dir.path().join("nginx.conf"), text).unwrap();
        let mut nginx = Command::new(NGINX);
        nginx
            .arg("-c")
            .arg(dir.path().join("nginx.conf"))
            .arg("-e")
            .arg(dir.path().join("log"));
        let process = nginx.stderr(Stdio::null()).spawn().unwrap();
        let mut nginx = Self {
            process,
            port,
            _dir: dir,
        };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(nginx.process.try_wait().unwrap().is_none(), "nginx ended");
            assert!(begun.elapsed() < START_WAIT, "nginx does not listen");
            std::thread::yield_now();
        }
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A folder with one blob, as `path` below it.
fn folder(blob: &Bytes, bucket: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(bucket);
    std::fs::create_dir_all(&path).unwrap();
    std::fs::write(path.join(sha256_of(blob).digest()), blob).unwrap();
    dir
}

/// The contract: exactly the range; absent blobs are absent; what ends early is an error.
async fn keeps_contract(location: &str, blob: &Bytes) {
    let location: StoreLocation = location.parse().unwrap();
    let store: Box<dyn BlobStore> = match &location {
        StoreLocation::Dir(folder) => Box::new(dir::Dir::new(folder.clone())),
        StoreLocation::Http(base) => Box::new(http::Http::new(base.clone()).unwrap()),
        StoreLocation::S3(location) => Box::new(s3::S3::new(location).unwrap()),
    };
    let (digest, len) = (sha256_of(blob), blob.len() as u64);
    for range in [0..len, 0..1, len - 1..len, 1000..150_001, 5..5] {
        let expected = &blob[range.start as usize..range.end as usize];
        assert_eq!(read(store.range(&digest, range).await).await.unwrap(), expected);
    }
    let absent = store.range(&sha256_of(b"absent"), 0..1).await.map(drop);
    assert!(matches!(absent, Err(Error::NotFound { .. })), "{absent:?}");
    for range in [len - 1..len + 1, len..len + 1] {
        let result = read(store.range(&digest, range).await).await;
        assert!(result.is_err(), "{} bytes beyond the end", result.unwrap().len());
    }
    assert!(!store.name().is_empty());
}

#[tokio::test]
async fn folders_keep_the_contract() {
    let blob = noise(300_000);
    for inside in ["", "sha256"] {
        let dir = folder(&blob, inside);
        keeps_contract(&format!("dir:{}", dir.path().display()), &blob).await;
    }
}

#[tokio::test]
async fn web_servers_keep_the_contract() {
    let blob = noise(300_000);
    let dir = folder(&blob, "blobs");
    let nginx = Nginx::start(dir.path());
    keeps_contract(&format!("http://127.0.0.1:{}/blobs", nginx.port), &blob).await;
}

/// A web server is an object store for who sends no signature, or one that nobody checks.
#[tokio::test]
async fn object_stores_keep_the_contract() {
    let blob = noise(300_000);
    let dir = folder(&blob, "bucket/some where");
    let nginx = Nginx::start(dir.path());
    let location = format!(
        "s3://bucket/some where/?endpoint=http%3A%2F%2F127.0.0.1%3A{}",
        nginx.port
    );
    keeps_contract(&location, &blob).await;
}

/// Not a test of its own: what the tests below run with keys in their environment.
#[tokio::test]
async fn asked_with_keys() {
    let Ok(location) = std::env::var(STORE) else {
        return;
    };
    let StoreLocation::S3(location) = location.parse().unwrap() else {
        panic!()
    };
    let store = s3::S3::new(&location).unwrap();
    read(store.range(&sha256_of(b"blob"), 0..4).await).await.unwrap();
}

/// The same for the whole contract.
#[tokio::test]
async fn contract_with_keys() {
    if let Ok(location) = std::env::var(STORE) {
        keeps_contract(&location, &noise(300_000)).await;
    }
}

/// Runs a test of this program with a store and keys in its environment, and nothing else.
async fn run_with_keys(test: &str, location: &str, (id, secret): (&str, &str)) -> Output {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", &format!("store::tests::{test}")])
        .env_clear()
        .env(STORE, location)
        .env("AWS_ACCESS_KEY_ID", id)
        .env("AWS_SECRET_ACCESS_KEY", secret)
        .env("AWS_SESSION_TOKEN", "lent");
    tokio::task::spawn_blocking(move || child.output().unwrap())
        .await
        .unwrap()
}

/// An object store that is somebody else's work, and checks signatures.
#[tokio::test]
async fn a_real_object_store_takes_the_signatures() {
    let dir = folder(&noise(300_000), "bucket/some where/x+y");
    let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(dir.path()).unwrap());
    service.set_auth(SimpleAuth::from_single("KEY", "hunter2"));
    let service = service.build();
    let app = axum::Router::new().fallback(move |request: axum::extract::Request| {
        let service = service.clone();
        async move {
            let answer = service.oneshot(request).await.unwrap();
            answer.map(axum::body::Body::new)
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    let location = format!("s3://bucket/some where/x+y/?region=eu-west-1&endpoint=http%3A%2F%2F{host}");
    let said = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let taken = run_with_keys("contract_with_keys", &location, ("KEY", "hunter2")).await;
    assert!(taken.status.success(), "{}", said(&taken));
    for keys in [("KEY", "hunter3"), ("OTHER", "hunter2")] {
        let refused = run_with_keys("contract_with_keys", &location, keys).await;
        assert!(!refused.status.success(), "{keys:?} were taken");
        assert!(said(&refused).contains("Unauthorized"), "{}", said(&refused));
    }
    serving.abort();
}

#[tokio::test]
async fn requests_are_signed_with_the_keys_of_the_environment() {
    let server = Server::start(|_| part("bytes 0-3/4", Bytes::from_static(b"blob"))).await;
    let location = format!(
        "s3://bucket/pre/?region=eu-west-1&endpoint=http://{}",
        server.host
    );
    let output = run_with_keys("asked_with_keys", &location, ("KEY", "hunter2")).await;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    let seen = &server.seen()[0];
    assert_eq!(seen.path, format!("/bucket/pre/{}", sha256_of(b"blob").digest()));
    let authorization = seen.header(AUTHORIZATION).unwrap();
    assert!(authorization.contains("Credential=KEY/") && authorization.contains("/eu-west-1/s3/"));
    assert!(
        authorization
            .contains("SignedHeaders=host;range;x-amz-content-sha256;x-amz-date;x-amz-security-token")
    );
    assert_eq!(seen.headers["x-amz-security-token"], "lent");
    assert_eq!(seen.headers.get_all(RANGE).iter().count(), 1);
    assert!(!format!("{:?}", seen.headers).contains("hunter2"));
}

#[tokio::test]
async fn a_store_that_fails_is_left_alone_and_another_is_asked() {
    let blob = noise(1000);
    let (failing, without) = (
        Server::start(|_| answer(500, &[], "")).await,
        Server::start(|_| answer(404, &[], "")).await,
    );
    let dir = folder(&blob, "");
    let locations = [
        format!("http://{}/", failing.host),
        format!("http://{}/", without.host),
        format!("dir:{}", dir.path().display()),
    ];
    let locations = locations.map(|location| location.parse().unwrap());
    let stores = Stores::new(&locations).unwrap();
    let digest = sha256_of(&blob);
    for _ in 0..2 {
        let stream = stores.range(&digest, &(5..10)).await.unwrap();
        assert_eq!(read(Ok(stream)).await.unwrap(), blob[5..10]);
    }
    assert_eq!((failing.trace().len(), without.trace().len()), (1, 1));
    assert!(stores.distrust(&digest, &(5..10)));
    assert!(stores.range(&digest, &(5..10)).await.is_none(), "nobody is left");
    assert!(!stores.distrust(&digest, &(500..600)), "nobody sent that");
}

#[tokio::test]
async fn a_store_that_ignores_ranges_or_sends_others_is_not_believed() {
    let answers: [fn() -> axum::response::Response; 3] = [
        || answer(200, &[], noise(1000)),
        || part("bytes 0-4/1000", noise(5)),
        || answer(206, &[], noise(5)),
    ];
    for script in answers {
        let server = Server::start(move |_| script()).await;
        let location = format!("http://{}/", server.host).parse().unwrap();
        let stores = Stores::new(&[location]).unwrap();
        assert!(stores.range(&sha256_of(b"x"), &(5..10)).await.is_none());
    }
}

#[rstest]
#[case("dir:relative")]
#[case("ftp://host/")]
#[case("/mnt/blobs")]
#[case("https://me:hunter2@host/")]
#[case("https://host/?token=hunter2")]
#[case("s3:///prefix")]
#[case("s3://bucket/?zone=hunter2")]
#[case("s3://bucket/?endpoint=hunter2")]
fn senseless_locations(#[case] text: &str) {
    let error = text.parse::<StoreLocation>().unwrap_err().to_string();
    assert!(!error.contains("hunter2"), "{error}");
}
