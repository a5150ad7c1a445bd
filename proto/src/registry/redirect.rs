//! Where a registry sends us for a blob: object stores, with addresses that are signed and good for a while. They are
//! kept for as long, so that a range costs one request and not two.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::LOCATION;
use reqwest::{Method, Response, StatusCode, Url};
use tokio::time::Instant;

use crate::image::Error;

/// Redirects followed: object stores behind registries need one, sometimes two.
pub(super) const REDIRECT_COUNT_MAX: usize = 5;
/// How long an address is kept that does not say how long it is good. One that is no longer good costs one request.
const TTL_DEFAULT: Duration = Duration::from_secs(60);
/// Longest time an address is kept, so that a registry that moves its blobs is followed.
const TTL_MAX: Duration = Duration::from_secs(900);
/// Addresses are given up this much earlier, so that they are good when they arrive.
const TTL_MARGIN: Duration = Duration::from_secs(10);
/// Addresses kept for one repository: more blobs than images have.
const COUNT_MAX: usize = 512;

/// Addresses by the path that was asked for.
#[derive(Default)]
pub(super) struct Redirects {
    known: Mutex<HashMap<String, (Url, Instant)>>,
}

impl Redirects {
    /// The address for a path, while it is good.
    pub(super) fn get(&self, path: &str) -> Option<Url> {
        let mut known = self.known();
        let (url, until) = known.get(path)?;
        if *until > Instant::now() {
            return Some(url.clone());
        }
        known.remove(path);
        None
    }

    /// Keeps an address for as long as it says that it is good.
    pub(super) fn keep(&self, path: &str, url: &Url) {
        let now = Instant::now();
        let Some(until) = now.checked_add(ttl(url, SystemTime::now())) else {
            return;
        };
        let mut known = self.known();
        if known.len() >= COUNT_MAX {
            known.retain(|_, (_, until)| *until > now);
        }
        if known.len() < COUNT_MAX {
            known.insert(path.to_owned(), (url.clone(), until));
        }
    }

    /// Gives an address up.
    pub(super) fn forget(&self, path: &str) {
        self.known().remove(path);
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, (Url, Instant)>> {
        // The map is whole at any time, so a panic elsewhere does not spoil it.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where an answer sends a request of this method. `None`: it is no redirect that keeps the request what it is.
///
/// # Errors
/// The address cannot be read, or leads from HTTPS down to plain HTTP.
pub(super) fn target(response: &Response, from: &Url, method: &Method) -> Result<Option<Url>, Error> {
    let keeps_method = match response.status() {
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => {
            [Method::GET, Method::HEAD].contains(method)
        }
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
        _ => false,
    };
    let location = response.headers().get(LOCATION).filter(|_| keeps_method);
    let Some(location) = location else { return Ok(None) };
    // Addresses are not repeated in errors: they may carry a signature.
    let invalid = |reason: &str| Error::invalid("redirect of a registry", reason);
    let location = location
        .to_str()
        .map_err(|_| invalid("the address is not text"))?;
    let url = from
        .join(location)
        .map_err(|_| invalid("the address cannot be read"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(invalid("it leads to something else than a web server"));
    }
    if from.scheme() == "https" && url.scheme() != "https" {
        return Err(invalid("it leads from HTTPS to plain HTTP"));
    }
    Ok(Some(url))
}

/// How long an address is good, from what signers of Amazon, Google, Azure and CloudFront put into it.
fn ttl(url: &Url, now: SystemTime) -> Duration {
    let query: HashMap<String, String> = url
        .query_pairs()
        .map(|(key, value)| (key.to_ascii_lowercase(), value.into_owned()))
        .collect();
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let signed = ["x-amz", "x-goog"].iter().find_map(|signer| {
        let seconds: u64 = query.get(&format!("{signer}-expires"))?.parse().ok()?;
        let from = compact_time(query.get(&format!("{signer}-date"))?)?;
        from.checked_add(seconds)
    });
    let absolute = || query.get("expires")?.parse::<u64>().ok();
    let azure = || compact_time(query.get("se")?);
    let until = signed.or_else(absolute).or_else(azure);
    let left = until.map_or(TTL_DEFAULT, |until| {
        Duration::from_secs(until.saturating_sub(now))
    });
    left.min(TTL_MAX).saturating_sub(TTL_MARGIN)
}

/// Reads `20130524T000000Z` or `2013-05-24T00:00:00Z`, as seconds since 1970.
fn compact_time(text: &str) -> Option<u64> {
    let digits: String = text.chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let (date, time) = digits.strip_suffix('Z')?.split_once('T')?;
    if date.len() != 8 || time.len() != 6 || !date.is_ascii() || !time.is_ascii() {
        return None;
    }
    let number = |text: &str| text.parse::<u64>().ok();
    let (year, month, day) = (number(&date[..4])?, number(&date[4..6])?, number(&date[6..])?);
    let (hour, minute, second) = (number(&time[..2])?, number(&time[2..4])?, number(&time[4..])?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years that begin in March have their leap day at the end.
    let (shifted, months) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leaps = shifted / 4 - shifted / 100 + shifted / 400;
    let days = (365 * shifted + leaps + (153 * months + 2) / 5 + day - 1).checked_sub(719_468)?;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_good_for_as_long_as_they_say() {
        // 2013-05-24T00:00:00Z, the day of the examples in Amazon's documentation.
        let now = UNIX_EPOCH + Duration::from_secs(1_369_353_600);
        let ttl = |query: &str| ttl(&format!("https://s.example/b?{query}").parse().unwrap(), now).as_secs();
        assert_eq!(
            ttl("X-Amz-Date=20130524T000000Z&X-Amz-Expires=300&X-Amz-Signature=x"),
            290
        );
        assert_eq!(ttl("X-Goog-Date=20130523T235900Z&X-Goog-Expires=120"), 50);
        assert_eq!(ttl("Expires=1369353700&Signature=x"), 90);
        assert_eq!(ttl("se=2013-05-24T00%3A01%3A00Z&sig=x"), 50);
        assert_eq!(
            ttl("X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400"),
            890,
            "bounded"
        );
        assert_eq!(ttl("X-Amz-Date=20130523T000000Z&X-Amz-Expires=300"), 0, "over");
        assert_eq!(ttl("Expires=999999999999999999999"), 50, "says nothing");
        assert_eq!(ttl(""), 50);
    }

    #[test]
    fn times_are_read() {
        assert_eq!(compact_time("19700101T000000Z"), Some(0));
        assert_eq!(compact_time("2000-02-29T12:34:56Z"), Some(951_827_696));
        assert_eq!(compact_time("20380119T031408Z"), Some(1 << 31));
        for bad in [
            "",
            "20130524",
            "20130524T000000",
            "2013052éT000000Z",
            "20131324T000000Z",
            "19690101T000000Z",
        ] {
            assert_eq!(compact_time(bad), None, "{bad}");
        }
    }
}
