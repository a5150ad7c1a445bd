//! One request to a host: authorize, send, repeat when that may help, judge the answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};

use super::auth::{Access, Auth, Authorization};
use super::host::{Host, authority};
use super::redirect::{REDIRECT_COUNT_MAX, Redirects};
use super::{answer, challenge, redirect};
use crate::image::Error;

/// A request without a body is answered within this time, or counts as failed.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The same when another host can be asked instead: twice this is within the silence that reads accept of a source.
pub(super) const SHORT_TIMEOUT: Duration = Duration::from_secs(4);
/// The same for requests that carry a body, and for those that make the registry hash or move a whole blob.
pub(super) const UPLOAD_TIMEOUT: Duration = Duration::from_secs(600);
/// A body may pause this long.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a request that may be repeated is sent.
const TRY_COUNT_MAX: u32 = 3;
/// The same where much work would be lost. With the pauses this outlasts a registry's restart: 13 s on average.
const STUBBORN_TRY_COUNT_MAX: u32 = 8;
/// Pause before the first repetition; doubled for each further one, and varied.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// Longest `Retry-After` that is waited for here; longer waits are the caller's.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(1);
/// The same where much work would be lost. Registries limit requests by the minute.
const STUBBORN_RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

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

/// Speaks to one host about one repository. Cheap to clone.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) host: Arc<Host>,
    auth: Arc<Auth>,
    redirects: Arc<Redirects>,
}

/// How much is done for one request before its failure is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// It is repeated, and may take its time.
    Full,
    /// Another host can do the same: one try, and a short one.
    Short,
    /// Much work would be lost: it is repeated until a registry that restarts, or limits requests, is back.
    Stubborn,
}

impl Patience {
    /// How often a request that may be repeated is sent.
    fn try_count_max(self) -> u32 {
        match self {
            Patience::Short => 1,
            Patience::Full => TRY_COUNT_MAX,
            Patience::Stubborn => STUBBORN_TRY_COUNT_MAX,
        }
    }

    /// Longest `Retry-After` that is waited for.
    fn retry_after_max(self) -> Duration {
        match self {
            Patience::Short | Patience::Full => RETRY_AFTER_MAX,
            Patience::Stubborn => STUBBORN_RETRY_AFTER_MAX,
        }
    }
}

impl Client {
    pub(super) fn new(host: Arc<Host>, auth: Auth) -> Self {
        Self {
            host,
            auth: Arc::new(auth),
            redirects: Arc::default(),
        }
    }

    /// Sends a request, again when that may help; the answer is a success.
    pub(super) async fn send(&self, request: &Request, patience: Patience) -> Result<Response, Error> {
        let mut pause = BACKOFF_FIRST;
        let mut tries_left = if request.repeatable {
            patience.try_count_max()
        } else {
            1
        };
        let timeout = match patience {
            Patience::Full | Patience::Stubborn => request.timeout,
            Patience::Short => request.timeout.min(SHORT_TIMEOUT),
        };
        loop {
            tries_left -= 1;
            let error = match self.send_once(request, timeout).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let wait = error.retry_after().unwrap_or(jittered(pause));
            // Without Retry-After the wait is our own, and as long as we think right.
            let is_too_long = error
                .retry_after()
                .is_some_and(|wait| wait > patience.retry_after_max());
            if tries_left == 0 || !error.is_retryable() || is_too_long {
                return Err(error);
            }
            tracing::debug!(%error, ?wait, "request is repeated");
            tokio::time::sleep(wait).await;
            pause *= 2;
        }
    }

    /// Sends a request. An answer 401 is met with fresh authorization, once; so is 403, where the authorization was an
    /// earlier request's: some registries say so of an outdated token.
    async fn send_once(&self, request: &Request, timeout: Duration) -> Result<Response, Error> {
        let base = self.host.base().await?;
        let (url, path) = match &request.target {
            Target::Url(url) => (url.clone(), None),
            Target::Path(path) => (self.address(base, path, &request.what)?, Some(path.as_str())),
        };
        if let Some(response) = self.ask_store(request, path, timeout).await {
            return Ok(response);
        }
        // A token is for the registry alone, never for a store that it sends us to.
        let trusted = url.origin() == base.origin();
        let auth = &self.auth;
        let mut authorization = auth.current(request.access).filter(|_| trusted);
        let (mut is_renewed, mut is_old) = (false, authorization.is_some());
        loop {
            let (response, from) = self
                .follow(request, &url, authorization.as_ref(), timeout)
                .await?;
            if response.status().is_success() {
                if let Some(path) = path.filter(|_| from.origin() != base.origin() && is_read(request)) {
                    self.redirects.keep(path, &from);
                }
                return Ok(response);
            }
            let is_registry = trusted && from.origin() == base.origin();
            match response.status() {
                StatusCode::UNAUTHORIZED if is_registry && !is_renewed => {
                    let renewed = auth
                        .renew(
                            &self.host.tokens,
                            &challenges(&response),
                            request.access,
                            authorization.as_ref(),
                        )
                        .await?;
                    authorization = Some(renewed);
                    (is_renewed, is_old) = (true, false);
                }
                StatusCode::FORBIDDEN if is_registry && is_old => {
                    auth.forget(request.access);
                    (authorization, is_old) = (None, false);
                }
                status => {
                    if status == StatusCode::FORBIDDEN && is_registry {
                        auth.forget(request.access);
                    }
                    return Err(answer::error(response, &request.what, &self.name_of(&from, base)).await);
                }
            }
        }
    }

    /// Asks where the registry sent an earlier request for the same. `None`: nowhere, or that is no longer good, for
    /// whatever reason; then it is the registry's turn.
    async fn ask_store(&self, request: &Request, path: Option<&str>, timeout: Duration) -> Option<Response> {
        let path = path.filter(|_| is_read(request))?;
        let url = self.redirects.get(path)?;
        let response = self.follow(request, &url, None, timeout.min(SHORT_TIMEOUT)).await;
        match response {
            Ok((response, _)) if response.status().is_success() => Some(response),
            _ => {
                tracing::debug!(
                    what = request.what,
                    "an address that a registry gave is no longer good"
                );
                self.redirects.forget(path);
                None
            }
        }
    }

    /// Sends a request where it is sent to. What is for this host alone stays with it.
    async fn follow(
        &self,
        request: &Request,
        url: &Url,
        authorization: Option<&Authorization>,
        timeout: Duration,
    ) -> Result<(Response, Url), Error> {
        let mut url = url.clone();
        for _ in 0..=REDIRECT_COUNT_MAX {
            let response = self.execute(request, &url, authorization, timeout).await?;
            match redirect::target(&response, &url, &request.method)? {
                Some(next) => url = next,
                None => return Ok((response, url)),
            }
        }
        Err(Error::invalid(&request.what, "too many redirects"))
    }

    fn name_of(&self, url: &Url, base: &Url) -> String {
        match url.origin() == base.origin() {
            true => self.host.name.clone(),
            false => authority(url),
        }
    }

    /// A mirror is told whose images it is asked for.
    fn address(&self, base: &Url, path: &str, what: &str) -> Result<Url, Error> {
        let mut url = base.join(path).map_err(|error| Error::invalid(what, &error))?;
        if let Some(namespace) = &self.host.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        Ok(url)
    }

    async fn execute(
        &self,
        request: &Request,
        url: &Url,
        authorization: Option<&Authorization>,
        timeout: Duration,
    ) -> Result<Response, Error> {
        let host = &self.host;
        let is_own = url.origin() == host.base().await?.origin();
        let authorization = authorization.filter(|_| is_own);
        // What is configured for this host may be a secret, too.
        let mut headers = match is_own {
            true => host.headers.clone(),
            false => HeaderMap::new(),
        };
        if authorization.is_some() {
            headers.remove(AUTHORIZATION);
        }
        headers.extend(request.headers.clone());
        // Blobs are to arrive as they are stored.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let mut builder = host
            .http
            .request(request.method.clone(), url.clone())
            .headers(headers);
        if let Some(authorization) = authorization {
            builder = authorization.apply(builder);
        }
        if let Some(body) = &request.body {
            builder = builder.body(body.clone());
        }
        execute(builder, &request.what, &host.name, timeout).await
    }
}

/// Whether addresses for this can be used again: they are signed for the method.
fn is_read(request: &Request) -> bool {
    request.method == Method::GET
}

fn challenges(response: &Response) -> Vec<challenge::Challenge> {
    let values = response.headers().get_all(WWW_AUTHENTICATE).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    values.flat_map(challenge::parse).collect()
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
pub(crate) fn network(what: &str, error: reqwest::Error) -> Error {
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

/// Anything up to twice `pause`, so that clients that failed together do not come back together.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.0..2.0))
}
