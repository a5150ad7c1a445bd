//! A host that has images: its address, its connections, its health. All images of a process share it.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Certificate, ClientBuilder, Identity, Url};
use tokio::sync::OnceCell;

use super::client::{self, ANSWER_TIMEOUT, network};
use super::endpoint;
use super::health::Health;
use super::hosts::{Capabilities, ClientCertificate, HostSpec, Tls};
use super::redirect::REDIRECT_COUNT_MAX;
use crate::image::{Error, read_regular};

/// A connection attempt that takes longer is given up: three lost SYN packets take 7 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle connections are kept this long: less than the 60 s after which common proxies close theirs.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// Most bytes of a file with certificates: the bundles of whole systems have some hundred KiB.
const PEM_LEN_MAX: u64 = 16 << 20;

/// A host that has images.
pub(super) struct Host {
    /// What errors and credentials call it: host and port.
    pub(super) name: String,
    pub(super) capabilities: Capabilities,
    pub(super) headers: HeaderMap,
    /// Passwords may go over plain HTTP: asked for, or within this machine.
    pub(super) plain_http: bool,
    /// Whose images a mirror is asked for.
    pub(super) namespace: Option<String>,
    /// For requests whose redirects are followed by who sends them.
    pub(super) http: reqwest::Client,
    /// For token services. Follows redirects within a host: a password in a body is for nobody else.
    pub(super) tokens: reqwest::Client,
    base: OnceCell<Url>,
    health: Mutex<Health>,
}

impl Host {
    /// A host of the registry `namespace`. `plain_http` is for a host whose address does not tell. Blocking.
    pub(super) fn new(spec: &HostSpec, namespace: &str, plain_http: bool) -> Result<Self, Error> {
        let name = spec.base.as_ref().map_or_else(|| namespace.to_owned(), authority);
        let http = http_client(spec, &name, Policy::none())?;
        let tokens = http_client(spec, &name, Policy::custom(follow_within_host))?;
        let is_registry =
            spec.base.is_none() || [namespace, endpoint::api_host(namespace)].contains(&name.as_str());
        let plain_http = match &spec.base {
            Some(base) => base.scheme() == "http",
            None => plain_http,
        };
        Ok(Self {
            plain_http: plain_http || endpoint::is_loopback(&name),
            base: match (&spec.base, plain_http) {
                (Some(base), _) => OnceCell::new_with(Some(base.clone())),
                (None, true) => OnceCell::new_with(Some(endpoint::base(&name, "http")?)),
                (None, false) => OnceCell::new(),
            },
            namespace: (!is_registry).then(|| namespace.to_owned()),
            name,
            capabilities: spec.capabilities,
            headers: spec.headers.clone(),
            http,
            tokens,
            health: Mutex::default(),
        })
    }

    /// The address of its API, found out at the first call.
    pub(super) async fn base(&self) -> Result<&Url, Error> {
        let https = || endpoint::base(&self.name, "https");
        let found = self.base.get_or_try_init(|| async {
            if !endpoint::is_loopback(&self.name) {
                return https();
            }
            match self.probe(https()?).await {
                Err(Error::PlainHttp { .. } | Error::Network { .. }) => {
                    self.probe(endpoint::base(&self.name, "http")?).await
                }
                other => other,
            }
        });
        found.await
    }

    async fn probe(&self, base: Url) -> Result<Url, Error> {
        client::execute(
            self.http.get(base.clone()),
            &self.name,
            &self.name,
            ANSWER_TIMEOUT,
        )
        .await?;
        Ok(base)
    }

    pub(super) fn health(&self) -> MutexGuard<'_, Health> {
        // It is whole at any time, so a panic elsewhere does not spoil it.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn http_client(spec: &HostSpec, name: &str, redirects: Policy) -> Result<reqwest::Client, Error> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("slipway/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(spec.dial_timeout.unwrap_or(CONNECT_TIMEOUT))
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        // Blobs are bulk data: separate connections share no window and do not stall each other.
        .http1_only()
        .referer(false)
        .redirect(redirects);
    if endpoint::is_loopback(name) {
        builder = builder.no_proxy();
    }
    builder = secured(builder, &spec.tls)?;
    builder.build().map_err(|error| network(name, error))
}

fn secured(mut builder: ClientBuilder, tls: &Tls) -> Result<ClientBuilder, Error> {
    for path in &tls.authorities {
        let pem = read_regular(path, PEM_LEN_MAX)?;
        let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| bad_pem(path, error))?;
        if certificates.is_empty() {
            return Err(Error::invalid(
                path.display().to_string(),
                "it holds no certificate in PEM",
            ));
        }
        builder = builder.tls_certs_merge(certificates);
    }
    // TLS shows one certificate; the first that is configured.
    if let Some(ClientCertificate { certificate, key }) = tls.client.first() {
        let mut pem = read_regular(certificate, PEM_LEN_MAX)?;
        if let Some(key) = key {
            pem.push(b'\n');
            pem.extend(read_regular(key, PEM_LEN_MAX)?);
        }
        let identity = Identity::from_pem(&pem).map_err(|error| bad_pem(certificate, error))?;
        builder = builder.identity(identity);
    }
    Ok(builder.tls_danger_accept_invalid_certs(tls.skip_verify))
}

fn bad_pem(path: &Path, error: reqwest::Error) -> Error {
    Error::invalid(
        path.display().to_string(),
        &format!("{}; hint: it must be PEM", error.without_url()),
    )
}

/// Follows redirects within a host, but never from HTTPS down to plain HTTP.
fn follow_within_host(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let Some(previous) = attempt.previous().last() else {
        return attempt.follow();
    };
    let is_same = previous.host_str() == attempt.url().host_str();
    let is_down = previous.scheme() == "https" && attempt.url().scheme() != "https";
    match (is_same && !is_down, attempt.previous().len() > REDIRECT_COUNT_MAX) {
        (false, _) => attempt.error("redirect of a token service to another host"),
        (true, true) => attempt.error("too many redirects"),
        (true, false) => attempt.follow(),
    }
}
