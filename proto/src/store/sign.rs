//! Signatures of requests, version 4. Pure: time is an argument.
//!
//! Source: Amazon, "Authenticating Requests (AWS Signature Version 4)", with the examples that are tests here.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use reqwest::Url;
use sha2::{Digest, Sha256};

/// The sha256 of nothing: requests here have no body.
const EMPTY_DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// Bytes that sha256 takes at a time, to which a key is filled up.
const BLOCK_LEN: usize = 64;

/// What to sign with. `Debug` never shows a secret.
pub(super) struct Keys {
    pub(super) id: String,
    pub(super) secret: String,
    /// Of keys that are lent for a while.
    pub(super) token: Option<String>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Keys({}, ***)", self.id)
    }
}

/// Signs GET requests.
pub(super) struct Signer<'a> {
    pub(super) keys: &'a Keys,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

impl Signer<'_> {
    /// The headers to put on a request for `path`, which is escaped, at `url`; `headers` are signed, too. Names are in
    /// lower case.
    pub(super) fn headers(
        &self,
        url: &Url,
        path: &str,
        headers: &[(&str, &str)],
        now: SystemTime,
    ) -> Vec<(String, String)> {
        let time = timestamp(now);
        let host = match url.port() {
            Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
            None => url.host_str().unwrap_or_default().to_owned(),
        };
        let own = [("x-amz-content-sha256", EMPTY_DIGEST), ("x-amz-date", &time)];
        let token = self.keys.token.as_deref();
        let token = token.map(|token| ("x-amz-security-token", token));
        let added: Vec<_> = own.into_iter().chain(token).collect();
        let mut signed: Vec<_> = headers.iter().chain(&added).copied().collect();
        signed.push(("host", &host));
        signed.sort_unstable();

        let names = signed.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let lines: String = signed
            .iter()
            .map(|(name, value)| format!("{name}:{}\n", value.trim()))
            .collect();
        let request = format!("GET\n{path}\n\n{lines}\n{names}\n{EMPTY_DIGEST}");
        let date = &time[..8];
        let scope = format!("{date}/{}/{}/aws4_request", self.region, self.service);
        let digest = hex::encode(Sha256::digest(request));
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}");
        let key = [date, self.region, self.service, "aws4_request"]
            .iter()
            .fold(format!("AWS4{}", self.keys.secret).into_bytes(), |key, part| {
                hmac(&key, part.as_bytes()).to_vec()
            });
        let signature = hex::encode(hmac(&key, text.as_bytes()));
        let id = &self.keys.id;
        let authorization =
            format!("AWS4-HMAC-SHA256 Credential={id}/{scope},SignedHeaders={names},Signature={signature}");
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let own = added.into_iter().map(owned);
        own.chain([("authorization".to_owned(), authorization)]).collect()
    }
}

/// Escapes a path as signatures want it: all but letters, digits, `-._~` and slashes.
pub(super) fn escape(path: &str) -> String {
    let escape = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    };
    path.bytes().map(escape).collect()
}

/// HMAC-SHA256, RFC 2104.
fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut block = [0_u8; BLOCK_LEN];
    match key.len() > BLOCK_LEN {
        true => block[..32].copy_from_slice(&Sha256::digest(key)),
        false => block[..key.len()].copy_from_slice(key),
    }
    let pad = |byte: u8| block.map(|key| key ^ byte);
    let inner = Sha256::new()
        .chain_update(pad(0x36))
        .chain_update(text)
        .finalize();
    let outer = Sha256::new().chain_update(pad(0x5c)).chain_update(inner);
    outer.finalize().into()
}

/// A time as `20130524T000000Z`.
fn timestamp(time: SystemTime) -> String {
    let secs = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, rest) = (secs / 86_400, secs % 86_400);
    // Years that begin in March have their leap day at the end; 400 of them are an era.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * months + 2) / 5 + 1;
    let month = if months < 10 { months + 3 } else { months - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The example "GET Object" of Amazon's documentation.
    #[test]
    fn amazon_s_example_is_signed_as_amazon_signs_it() {
        let keys = Keys {
            id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            token: None,
        };
        let signer = Signer {
            keys: &keys,
            region: "us-east-1",
            service: "s3",
        };
        let url = "https://examplebucket.s3.amazonaws.com/test.txt".parse().unwrap();
        let now = UNIX_EPOCH + Duration::from_secs(1_369_353_600);
        let headers = signer.headers(&url, "/test.txt", &[("range", "bytes=0-9")], now);
        let (_, authorization) = headers.last().unwrap();
        assert_eq!(
            authorization,
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
             SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,\
             Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
        assert!(!format!("{keys:?}").contains("wJalr"));
    }

    /// RFC 4231, cases 1, 2 and 6.
    #[test]
    fn hmac_is_that_of_the_rfc() {
        let hmac = |key: &[u8], text: &[u8]| hex::encode(hmac(key, text));
        assert_eq!(
            hmac(&[0x0b; 20], b"Hi There"),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        );
        assert_eq!(
            hmac(b"Jefe", b"what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hmac(
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First"
            ),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    #[test]
    fn times_and_paths_are_written_as_amazon_wants_them() {
        for (secs, text) in [
            (0, "19700101T000000Z"),
            (951_827_696, "20000229T123456Z"),
            (1 << 31, "20380119T031408Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(secs)), text);
        }
        assert_eq!(escape("a/b c+é"), "a/b%20c%2B%C3%A9");
    }
}
