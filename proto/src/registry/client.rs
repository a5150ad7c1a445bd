//! One request to a registry: authorize, send, repeat when that may help, judge the answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use tokio::sync::OnceCell;

use super::auth::{Access, Auth, Authorization};
use super::{answer, challenge, endpoint};
use crate::image::{Error, Options};

/// A connection attempt that takes longer is given up: three lost SYN packets take 7 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A request without a body is answered within this time, or counts as failed.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The same for requests that carry a body, and for those that make the registry hash or move a whole blob.
pub(super) const UPLOAD_TIMEOUT: Duration = Duration::from_secs(600);
/// A body may pause this long.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Idle connections are kept this long: less than the 60 s after which common proxies close theirs.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// Redirects followed: object stores behind registries need one, sometimes two.
const REDIRECT_COUNT_MAX: usize = 5;
/// How often a request that may be repeated is sent.
const TRY_COUNT_MAX: u32 = 3;
/// Pause before the first repetition; doubled for each further one, and varied by half.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// Longest `Retry-After` that is waited for here; longer waits are the caller's.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(1);

/// One request.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) target: Target,
    pub(super) access: Access,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
    /// Sending it twice does no harm.
    pub(super) repeatable: bool,
    pub(super) timeout: Duration,
    /// Names the thing asked for in errors.
    pub(super) what: String,
}

/// Where a request goes.
pub(super) enum Target {
    /// Below the registry's `/v2/`.
    Path(String),
    /// Where the registry told us to.
    Url(Url),
}

impl Request {
    /// A request without a body that may be repeated.
    pub(super) fn new(method: Method, path: String, access: Access, what: String) -> Self {
        let (headers, target) = (HeaderMap::new(), Target::Path(path));
        Self {
            method,
            target,
            access,
            headers,
            body: None,
            repeatable: true,
            timeout: ANSWER_TIMEOUT,
            what,
        }
    }

    pub(super) fn header(mut self, name: reqwest::header::HeaderName, value: &str) -> Result<Self, Error> {
        let value =
            HeaderValue::from_str(value).map_err(|error| Error::invalid(format!("header {name}"), &error))?;
        self.headers.append(name, value);
        Ok(self)
    }
}

/// Speaks to one registry about one repository. Cheap to clone.
#[derive(Clone)]
pub(super) struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    host: String,
    plain_http: bool,
    http: reqwest::Client,
    base: OnceCell<Url>,
    auth: Auth,
}

impl Client {
    pub(super) fn new(host: &str, repository: &str, options: &Options) -> Result<Self, Error> {
        let auth = Auth::new(host, repository, options);
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("slipway/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            // Blobs are bulk data: separate connections share no window and do not stall each other.
            .http1_only()
            .referer(false)
            .redirect(Policy::custom(follow));
        if endpoint::is_loopback(host) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| network(host, error))?;
        let (host, base) = (host.to_owned(), OnceCell::new());
        Ok(Self {
            shared: Arc::new(Shared {
                host,
                plain_http: options.plain_http,
                http,
                base,
                auth,
            }),
        })
    }

    pub(super) fn host(&self) -> &str {
        &self.shared.host
    }

    /// The address of the registry's API, found out at the first call.
    async fn base(&self) -> Result<&Url, Error> {
        let shared = &self.shared;
        let https = || endpoint::base(&shared.host, "https");
        let http = || endpoint::base(&shared.host, "http");
        shared
            .base
            .get_or_try_init(|| async {
                if shared.plain_http {
                    return http();
                }
                if !endpoint::is_loopback(&shared.host) {
                    return https();
                }
                match self.probe(https()?).await {
                    Err(Error::PlainHttp { .. } | Error::Network { .. }) => self.probe(http()?).await,
                    other => other,
                }
            })
            .await
    }

    async fn probe(&self, base: Url) -> Result<Url, Error> {
        let host = &self.shared.host;
        execute(self.shared.http.get(base.clone()), host, host, ANSWER_TIMEOUT).await?;
        Ok(base)
    }

    /// Sends a request, again when that may help; the answer is a success.
    pub(super) async fn send(&self, request: &Request) -> Result<Response, Error> {
        let mut pause = BACKOFF_FIRST;
        let mut tries_left = if request.repeatable { TRY_COUNT_MAX } else { 1 };
        loop {
            tries_left -= 1;
            let error = match self.send_once(request).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let wait = error.retry_after().unwrap_or(jittered(pause));
            if tries_left == 0 || !error.is_retryable() || wait > RETRY_AFTER_MAX {
                return Err(error);
            }
            tracing::debug!(%error, ?wait, "request is repeated");
            tokio::time::sleep(wait).await;
            pause *= 2;
        }
    }

    /// Sends a request; an answer 401 is met with fresh authorization, once.
    async fn send_once(&self, request: &Request) -> Result<Response, Error> {
        let base = self.base().await?;
        let url = match &request.target {
            Target::Url(url) => url.clone(),
            Target::Path(path) => base
                .join(path)
                .map_err(|error| Error::invalid(&request.what, &error))?,
        };
        let (auth, host) = (&self.shared.auth, &self.shared.host);
        // A token is for the registry alone, never for a store that it sends us to.
        let trusted = url.origin() == base.origin();
        let mut authorization = auth.current(request.access).filter(|_| trusted);
        let mut response = self.execute(request, &url, authorization.as_ref()).await?;
        if response.status() == StatusCode::UNAUTHORIZED && trusted {
            let values = response.headers().get_all(WWW_AUTHENTICATE).iter();
            let challenges: Vec<_> = values
                .filter_map(|value| value.to_str().ok())
                .flat_map(challenge::parse)
                .collect();
            let renewed = auth
                .renew(
                    &self.shared.http,
                    &challenges,
                    request.access,
                    authorization.as_ref(),
                )
                .await?;
            authorization = Some(renewed);
            response = self.execute(request, &url, authorization.as_ref()).await?;
        }
        if response.status() == StatusCode::FORBIDDEN && trusted {
            // Some registries say so of an outdated token: the next request starts anew.
            auth.forget(request.access);
        }
        match response.status().is_success() {
            true => Ok(response),
            false => Err(answer::error(response, &request.what, host).await),
        }
    }

    async fn execute(
        &self,
        request: &Request,
        url: &Url,
        authorization: Option<&Authorization>,
    ) -> Result<Response, Error> {
        let mut builder = self.shared.http.request(request.method.clone(), url.clone());
        // Blobs are to arrive as they are stored.
        builder = builder
            .headers(request.headers.clone())
            .header(ACCEPT_ENCODING, "identity");
        if let Some(authorization) = authorization {
            builder = authorization.apply(builder);
        }
        if let Some(body) = &request.body {
            builder = builder.body(body.clone());
        }
        execute(builder, &request.what, &self.shared.host, request.timeout).await
    }
}

/// Sends a request and waits for the head of the answer, whatever it says.
pub(super) async fn execute(
    request: RequestBuilder,
    what: &str,
    host: &str,
    timeout: Duration,
) -> Result<Response, Error> {
    match tokio::time::timeout(timeout, request.send()).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) if speaks_plain_http(&error) => Err(Error::PlainHttp {
            registry: host.to_owned(),
        }),
        Ok(Err(error)) => Err(network(what, error)),
        Err(_) => Err(stalled(what, timeout)),
    }
}

/// An [`Error::Network`] without the address, which may carry a signature.
pub(super) fn network(what: &str, error: reqwest::Error) -> Error {
    Error::Network {
        place: what.to_owned(),
        source: Box::new(error.without_url()),
    }
}

/// An [`Error::Network`] for silence.
pub(super) fn stalled(what: &str, timeout: Duration) -> Error {
    let text = format!("nothing came for {} s", timeout.as_secs());
    Error::Network {
        place: what.to_owned(),
        source: Box::new(std::io::Error::new(std::io::ErrorKind::TimedOut, text)),
    }
}

/// Whether the other side answered a TLS greeting in plain text, which TLS takes for a damaged record.
fn speaks_plain_http(error: &reqwest::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.to_string().contains("InvalidContentType") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Follows redirects, but never from HTTPS down to plain HTTP.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let was_secure = attempt
        .previous()
        .last()
        .is_some_and(|url| url.scheme() == "https");
    if was_secure && attempt.url().scheme() != "https" {
        return attempt.error("redirect from HTTPS to plain HTTP");
    }
    match attempt.previous().len() > REDIRECT_COUNT_MAX {
        true => attempt.error("too many redirects"),
        false => attempt.follow(),
    }
}

/// Between half of `pause` and one and a half.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..1.5))
}
