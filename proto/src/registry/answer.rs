//! What an answer of a registry means.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode};
use serde::Deserialize;

use super::client::{STALL_TIMEOUT, network, stalled};
use crate::image::Error;

/// An error's body is read up to here; registries send a few hundred bytes.
const ERROR_BODY_LEN_MAX: u64 = 64 << 10;
/// Words of a registry that are passed on to the user.
const MESSAGE_LEN_MAX: usize = 300;

/// The error that an unsuccessful answer stands for. `what` names the thing asked for.
pub(super) async fn error(response: Response, what: &str, host: &str) -> Error {
    let status = response.status();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let body = body(response, what, ERROR_BODY_LEN_MAX).await.unwrap_or_default();
    let message = message(&body);
    let place = what.to_owned();
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            let reason = if message.is_empty() {
                format!("status {}", status.as_u16())
            } else {
                message
            };
            unauthorized(host, reason)
        }
        StatusCode::NOT_FOUND => Error::NotFound {
            what: place,
            place: host.to_owned(),
        },
        StatusCode::TOO_MANY_REQUESTS => Error::Throttled {
            place,
            retry_after: retry_after.map(Duration::from_secs),
        },
        // With a time to wait it is no failure but a request to come later.
        StatusCode::SERVICE_UNAVAILABLE if retry_after.is_some() => Error::Throttled {
            place,
            retry_after: retry_after.map(Duration::from_secs),
        },
        status if status.is_server_error() => Error::Server {
            place,
            status: status.as_u16(),
            message,
        },
        status => Error::Refused {
            place,
            status: status.as_u16(),
            message,
        },
    }
}

/// An [`Error::Unauthorized`] with the usual advice.
pub(super) fn unauthorized(host: &str, reason: String) -> Error {
    let hint = format!(
        "check the name, and log in with `docker login {host}` or `skopeo login {host}`, or pass --creds USER:PASSWORD"
    );
    Error::Unauthorized {
        registry: host.to_owned(),
        reason,
        hint,
    }
}

/// A whole body, unless it is longer than `len_max`.
pub(super) async fn body(response: Response, what: &str, len_max: u64) -> Result<Bytes, Error> {
    let mut body = response.bytes_stream();
    let mut all = Vec::new();
    loop {
        let next = tokio::time::timeout(STALL_TIMEOUT, body.next())
            .await
            .map_err(|_| stalled(what, STALL_TIMEOUT))?;
        let Some(bytes) = next else { return Ok(all.into()) };
        let bytes = bytes.map_err(|error| network(what, error))?;
        if (all.len() as u64).saturating_add(bytes.len() as u64) > len_max {
            return Err(Error::TooLarge {
                what: what.to_owned(),
                len_max,
            });
        }
        all.extend_from_slice(&bytes);
    }
}

/// The distribution specification's error document.
#[derive(Deserialize)]
struct Document {
    errors: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// The registry's words in one printable line.
fn message(body: &[u8]) -> String {
    let text = match serde_json::from_slice::<Document>(body) {
        Ok(document) => {
            let texts = document.errors.into_iter();
            let texts = texts.map(|entry| {
                if entry.message.is_empty() {
                    entry.code
                } else {
                    entry.message
                }
            });
            texts.collect::<Vec<_>>().join("; ")
        }
        Err(_) => String::new(),
    };
    text.chars()
        .filter(|c| !c.is_control())
        .take(MESSAGE_LEN_MAX)
        .collect()
}
