//! What an answer of a registry means.

use std::time::{Duration, SystemTime};

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

/// Longest wait that a registry can ask for: what it says is a wish, and its clock may be wrong.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// How long a `Retry-After` asks to wait: so many seconds, or until a date.
fn retry_after(header: &str, now: SystemTime) -> Option<Duration> {
    let wait = match header.trim().parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        // A date that has passed asks for no wait.
        Err(_) => httpdate::parse_http_date(header.trim())
            .ok()?
            .duration_since(now)
            .unwrap_or_default(),
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// The error that an unsuccessful answer stands for. `what` names the thing asked for.
pub(crate) async fn error(response: Response, what: &str, host: &str) -> Error {
    let status = response.status();
    let retry_after = (response.headers().get(RETRY_AFTER))
        .and_then(|value| retry_after(value.to_str().ok()?, SystemTime::now()));
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
        StatusCode::TOO_MANY_REQUESTS => Error::Throttled { place, retry_after },
        // With a time to wait it is no failure but a request to come later.
        StatusCode::SERVICE_UNAVAILABLE if retry_after.is_some() => Error::Throttled { place, retry_after },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_seconds_or_dates_and_bounded() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let secs = |header| retry_after(header, now).map(|wait| wait.as_secs());
        assert_eq!(secs("7"), Some(7));
        assert_eq!(secs("86400"), Some(300));
        assert_eq!(secs("Sun, 06 Nov 1994 08:50:07 GMT"), Some(30));
        assert_eq!(secs("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!(secs("Sat, 06 Nov 2094 08:00:00 GMT"), Some(300));
        for bad in ["", "soon", "-1", "1.5"] {
            assert_eq!(secs(bad), None, "{bad}");
        }
    }
}
