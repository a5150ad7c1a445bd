//! Authorization headers: basic, and bearer tokens from the token service a registry names.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use tokio::time::Instant;

use super::answer;
use super::challenge::Challenge;
use super::client::{self, ANSWER_TIMEOUT};
use super::credentials::{Credentials, Keyring};
use super::host::Host;
use crate::image::{Error, blocking};

/// How long a token lasts when the service does not say (the distribution specification's default).
const TOKEN_TTL_DEFAULT: Duration = Duration::from_secs(60);
/// Tokens are renewed this much earlier, so that they do not expire on their way.
const TOKEN_TTL_MARGIN: Duration = Duration::from_secs(5);
/// A token service's answer may be this long: real tokens have a few KiB.
const TOKEN_ANSWER_LEN_MAX: u64 = 256 << 10;
/// How we are called at token services.
const CLIENT_ID: &str = "slipway";

/// What a request wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Access {
    Pull,
    Push,
}

/// The authorization state of one repository at one registry.
pub(super) struct Auth {
    host: String,
    repository: String,
    given: Option<(String, String)>,
    /// Passwords may go over plain HTTP: asked for, or within this machine.
    plain_http: bool,
    keyring: Arc<Keyring>,
    cache: Mutex<HashMap<Access, Cached>>,
}

/// What proves who we are, to be put on a request. No `Debug`: it is a secret.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Authorization {
    Basic { user: String, password: String },
    Bearer(HeaderValue),
}

impl Authorization {
    pub(super) fn apply(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::Basic { user, password } => request.basic_auth(user, Some(password)),
            Self::Bearer(header) => request.header(AUTHORIZATION, header.clone()),
        }
    }
}

#[derive(Clone)]
struct Cached {
    authorization: Authorization,
    /// `None`: good until it is refused.
    expires: Option<Instant>,
}

impl Auth {
    /// `given` credentials are used instead of those that are found.
    pub(super) fn new(
        host: &Host,
        repository: &str,
        given: Option<(String, String)>,
        keyring: Arc<Keyring>,
    ) -> Self {
        Self {
            host: host.name.clone(),
            repository: repository.to_owned(),
            given,
            plain_http: host.plain_http,
            keyring,
            cache: Mutex::default(),
        }
    }

    fn cache(&self) -> MutexGuard<'_, HashMap<Access, Cached>> {
        // The map is whole at any time, so a panic elsewhere does not spoil it.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to send, when it is known and not about to expire.
    pub(super) fn current(&self, access: Access) -> Option<Authorization> {
        let cached = self.cache().get(&access).cloned()?;
        let fresh = cached.expires.is_none_or(|expires| Instant::now() < expires);
        fresh.then_some(cached.authorization)
    }

    /// Drops what is known, after it was refused.
    pub(super) fn forget(&self, access: Access) {
        self.cache().remove(&access);
    }

    /// Answers a 401: what to try again with. `refused` is what was not good enough. Where one login is not taken, that
    /// of another place is tried.
    pub(super) async fn renew(
        &self,
        http: &Client,
        challenges: &[Challenge],
        access: Access,
        refused: Option<&Authorization>,
    ) -> Result<Authorization, Error> {
        // Another request may have renewed it meanwhile.
        if let Some(current) = self.current(access).filter(|current| Some(current) != refused) {
            return Ok(current);
        }
        let first = self.credentials(None).await?;
        let result = self.log_in(http, challenges, access, (&first, refused)).await;
        let cached = match result {
            Err(error @ Error::Unauthorized { .. }) => {
                let second = self.credentials(Some(first.clone())).await?;
                if second == first {
                    return Err(error);
                }
                self.log_in(http, challenges, access, (&second, refused)).await?
            }
            result => result?,
        };
        self.cache().insert(access, cached.clone());
        Ok(cached.authorization)
    }

    async fn log_in(
        &self,
        http: &Client,
        challenges: &[Challenge],
        access: Access,
        (credentials, refused): (&Credentials, Option<&Authorization>),
    ) -> Result<Cached, Error> {
        let find = |scheme| challenges.iter().find(|challenge| challenge.scheme == scheme);
        let cached = match (find("bearer"), find("basic"), credentials) {
            (Some(challenge), _, _) => self.token(http, challenge, access, credentials).await?,
            (None, Some(_), Credentials::Password { user, password }) => {
                let (user, password) = (user.clone(), password.clone());
                Cached {
                    authorization: Authorization::Basic { user, password },
                    expires: None,
                }
            }
            (None, Some(_), _) => return Err(self.refused("it asks for a password", credentials)),
            (None, None, _) => return Err(self.refused("it offers no known way to log in", credentials)),
        };
        match Some(&cached.authorization) == refused {
            true => Err(self.refused("wrong user name or password", credentials)),
            false => Ok(cached),
        }
    }

    /// Read anew each time, so that a login or a renewed secret counts at once.
    async fn credentials(&self, refused: Option<Credentials>) -> Result<Credentials, Error> {
        if let Some((user, password)) = self.given.clone() {
            return Ok(Credentials::Password { user, password });
        }
        let (host, repository) = (self.host.clone(), self.repository.clone());
        let keyring = Arc::clone(&self.keyring);
        blocking(move || Ok(keyring.find(&host, &repository, refused.as_ref()))).await
    }

    async fn token(
        &self,
        http: &Client,
        challenge: &Challenge,
        access: Access,
        credentials: &Credentials,
    ) -> Result<Cached, Error> {
        let realm = challenge
            .parameter("realm")
            .and_then(|realm| Url::parse(realm).ok());
        let Some(realm) = realm else {
            return Err(self.refused("it names no valid token service", credentials));
        };
        if realm.scheme() != "https" && !self.plain_http && *credentials != Credentials::Anonymous {
            return Err(self.refused(
                "its token service would get the password over plain HTTP",
                credentials,
            ));
        }
        let actions = match access {
            Access::Pull => "pull",
            Access::Push => "pull,push",
        };
        let scope = format!("repository:{}:{actions}", self.repository);
        let service = challenge.parameter("service").unwrap_or_default();
        let asked = TokenRequest {
            http,
            realm,
            service,
            scope: &scope,
        };

        let mut response = match credentials {
            Credentials::IdentityToken(_) => self.execute(asked.post(credentials)).await?,
            _ => self.execute(asked.get(credentials)).await?,
        };
        // Services that know only OAuth 2 do not answer GET.
        let no_get = matches!(
            response.status(),
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED
        );
        if no_get && *credentials != Credentials::Anonymous {
            response = self.execute(asked.post(credentials)).await?;
        }
        let what = format!("token service of {}", self.host);
        if !response.status().is_success() {
            let error = answer::error(response, &what, &self.host).await;
            return Err(match error {
                Error::Refused { message, .. } | Error::Unauthorized { reason: message, .. } => {
                    self.refused(&message, credentials)
                }
                other => other,
            });
        }
        let body = answer::body(response, &what, TOKEN_ANSWER_LEN_MAX).await?;
        let answer: TokenAnswer =
            serde_json::from_slice(&body).map_err(|error| Error::invalid(&what, &error))?;
        answer.cached(&what)
    }

    async fn execute(&self, request: RequestBuilder) -> Result<reqwest::Response, Error> {
        client::execute(
            request,
            &format!("token service of {}", self.host),
            &self.host,
            ANSWER_TIMEOUT,
        )
        .await
    }

    fn refused(&self, reason: &str, credentials: &Credentials) -> Error {
        let who = match credentials {
            Credentials::Anonymous => "no credentials were found for it".to_owned(),
            Credentials::Password { user, .. } => format!("as user {user:?}"),
            Credentials::IdentityToken(_) => "with a stored identity token".to_owned(),
        };
        let reason = if reason.is_empty() {
            who
        } else {
            format!("{reason} ({who})")
        };
        answer::unauthorized(&self.host, reason)
    }
}

/// What a token is asked for.
struct TokenRequest<'a> {
    http: &'a Client,
    realm: Url,
    service: &'a str,
    scope: &'a str,
}

impl TokenRequest<'_> {
    fn get(&self, credentials: &Credentials) -> RequestBuilder {
        let mut query = vec![("scope", self.scope), ("client_id", CLIENT_ID)];
        if !self.service.is_empty() {
            query.push(("service", self.service));
        }
        let request = self.http.get(self.realm.clone()).query(&query);
        match credentials {
            Credentials::Password { user, password } => request.basic_auth(user, Some(password)),
            Credentials::Anonymous | Credentials::IdentityToken(_) => request,
        }
    }

    fn post(&self, credentials: &Credentials) -> RequestBuilder {
        let mut form = vec![
            ("scope", self.scope),
            ("service", self.service),
            ("client_id", CLIENT_ID),
        ];
        match credentials {
            Credentials::Password { user, password } => {
                form.extend([
                    ("grant_type", "password"),
                    ("username", user),
                    ("password", password),
                ]);
            }
            Credentials::IdentityToken(token) => {
                form.extend([("grant_type", "refresh_token"), ("refresh_token", token)]);
            }
            Credentials::Anonymous => {}
        }
        self.http.post(self.realm.clone()).form(&form)
    }
}

/// What token services answer; some use the one name, some the other.
#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl TokenAnswer {
    fn cached(self, what: &str) -> Result<Cached, Error> {
        let token = self.token.or(self.access_token).unwrap_or_default();
        let header = HeaderValue::from_str(&format!("Bearer {token}"))
            .ok()
            .filter(|_| !token.is_empty());
        let mut header = header.ok_or_else(|| Error::invalid(what, "no token in the answer"))?;
        header.set_sensitive(true);
        let ttl = self.expires_in.map_or(TOKEN_TTL_DEFAULT, Duration::from_secs);
        let expires = Instant::now().checked_add(ttl.saturating_sub(TOKEN_TTL_MARGIN));
        Ok(Cached {
            authorization: Authorization::Bearer(header),
            expires,
        })
    }
}
