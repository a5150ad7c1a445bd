//! A proxy between us and the registry: nginx, named by the environment.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::script::{Server, part};
use super::{noise, read, repository};
use crate::image::digest;

const NGINX: &str = "/usr/sbin/nginx";
/// How long nginx may take to listen, on a busy machine.
const START_WAIT: Duration = Duration::from_secs(60);
/// Tells the test, started again with a proxy in its environment, which registry to ask.
const CHILD: &str = "SLIPWAY_TEST_PROXIED";

/// A running nginx. Dropped, it is gone.
struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A proxy that knows no names: whatever it is asked for, it asks `upstream`.
fn proxy(dir: &std::path::Path, upstream: &str) -> (Nginx, u16) {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let text = format!(
        "daemon off; master_process off; pid {0}/pid; error_log {0}/log; events {{}}\n\
         http {{ access_log {0}/access; client_body_temp_path {0}/t1; proxy_temp_path {0}/t2; fastcgi_temp_path {0}/t3;\n\
         uwsgi_temp_path {0}/t4; scgi_temp_path {0}/t5;\n\
         server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://{upstream}; }} }} }}\n",
        dir.display()
    );
    std::fs::write(dir.join("nginx.conf"), text).unwrap();
    let mut nginx = Command::new(NGINX);
    nginx
        .arg("-c")
        .arg(dir.join("nginx.conf"))
        .arg("-e")
        .arg(dir.join("log"));
    let mut nginx = Nginx(nginx.stderr(Stdio::null()).spawn().unwrap());
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(nginx.0.try_wait().unwrap().is_none(), "nginx ended");
        assert!(begun.elapsed() < START_WAIT, "nginx does not listen");
        std::thread::yield_now();
    }
    (nginx, port)
}

/// Not a test of its own: what the test below runs with an environment.
#[tokio::test]
async fn asked_through_the_environment() {
    let Ok(registry) = std::env::var(CHILD) else {
        return;
    };
    let blob = noise(1000);
    let range = repository(&registry, None)
        .range(&digest::sha256_of(&blob), 0..10)
        .await;
    assert_eq!(read(range).await.unwrap(), blob[..10]);
}

#[tokio::test]
async fn the_proxy_of_the_environment_is_used_save_where_it_says_not() {
    if !std::path::Path::new(NGINX).exists() {
        return;
    }
    let first = noise(1000).slice(..10);
    let server = Server::start(move |_| part("bytes 0-9/1000", first.clone())).await;
    let dir = tempfile::tempdir().unwrap();
    let (_nginx, port) = proxy(dir.path(), &server.host);
    let run = |registry: &str, no_proxy: &str| {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child
            .args(["--exact", "registry::tests::proxy::asked_through_the_environment"])
            .env_clear()
            .env("http_proxy", format!("http://127.0.0.1:{port}"))
            .env("no_proxy", no_proxy)
            .env(CHILD, registry);
        tokio::task::spawn_blocking(move || child.output().unwrap().status.success())
    };
    // No such host is known to anybody but the proxy.
    assert!(run("registry.invalid", "other.invalid").await.unwrap());
    assert_eq!(server.trace().len(), 1);
    assert!(!run("registry.invalid", "registry.invalid").await.unwrap());
    assert!(!run("registry.invalid", ".invalid").await.unwrap());
    // This machine needs no proxy.
    assert!(run(&server.host, "").await.unwrap());
    assert_eq!(server.trace().len(), 2);
    let log = std::fs::read_to_string(dir.path().join("access")).unwrap();
    assert_eq!(log.lines().count(), 1, "{log}");
}
