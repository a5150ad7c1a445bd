//! A registry whose every answer the test decides.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;

/// Longest body a test sends.
const BODY_LEN_MAX: usize = 64 << 20;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The other end of its connection.
    pub(crate) peer: SocketAddr,
    /// How many came before it.
    pub(crate) count: usize,
}

impl Seen {
    pub(crate) fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A listening server. Dropped, it is gone.
pub(crate) struct Server {
    pub(crate) host: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Answers every request with `script`.
    pub(crate) async fn start(script: impl Fn(&Seen) -> Response + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, script) = (Arc::clone(&seen), Arc::new(script));
        let app = axum::Router::new().fallback(
            move |ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request| {
                let (log, script) = (Arc::clone(&log), Arc::clone(&script));
                async move {
                    let (head, body) = request.into_parts();
                    let body = to_bytes(body, BODY_LEN_MAX).await.unwrap();
                    let path = head.uri.path_and_query().unwrap().to_string();
                    let mut log = log.lock().unwrap();
                    let seen = Seen {
                        method: head.method,
                        path,
                        headers: head.headers,
                        body,
                        peer,
                        count: log.len(),
                    };
                    log.push(seen.clone());
                    script(&seen)
                }
            },
        );
        let task = tokio::spawn(async move {
            axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>())
                .await
                .unwrap()
        });
        Self { host, seen, task }
    }

    /// Closes the port, and waits until it is closed.
    pub(crate) async fn stop(mut self) {
        self.task.abort();
        assert!((&mut self.task).await.unwrap_err().is_cancelled());
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Methods and paths of the requests so far.
    pub(crate) fn trace(&self) -> Vec<String> {
        self.seen()
            .iter()
            .map(|seen| format!("{} {}", seen.method, seen.path))
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn answer(status: u16, headers: &[(HeaderName, &str)], body: impl Into<Body>) -> Response {
    let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
    for (name, value) in headers {
        response = response.header(name, *value);
    }
    response.body(body.into()).unwrap()
}

/// `206` with `bytes` as the given range.
pub(crate) fn part(content_range: &str, bytes: Bytes) -> Response {
    answer(206, &[(header::CONTENT_RANGE, content_range)], bytes)
}

/// A body that promises `len` bytes and breaks after `bytes`.
pub(crate) fn broken(status: u16, headers: &[(HeaderName, &str)], bytes: Bytes, len: usize) -> Response {
    let pieces = futures::stream::iter([Ok(bytes)]);
    let end = futures::stream::once(async {
        // The server sends what it has when the body has to wait.
        tokio::task::yield_now().await;
        Err(std::io::Error::other("cut"))
    });
    let mut response = answer(status, headers, Body::from_stream(pieces.chain(end)));
    response.headers_mut().insert(header::CONTENT_LENGTH, len.into());
    response
}
