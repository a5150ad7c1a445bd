//! An S3-compatible object store.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use futures::FutureExt;
use futures::future::BoxFuture;
use oci_spec::image::Digest;
use reqwest::Url;

use super::sign::{Keys, Signer, escape};
use super::{BlobStore, S3Location, http};
use crate::image::{ByteStream, Error, blocking};

/// A bucket.
pub(super) struct S3 {
    name: String,
    /// Ends with a slash, or is what object names are put behind.
    base: Url,
    prefix: String,
    region: String,
    client: reqwest::Client,
}

impl S3 {
    /// Blocking: reads the system's certificates.
    pub(super) fn new(location: &S3Location) -> Result<Self, Error> {
        let S3Location {
            bucket,
            prefix,
            region,
            endpoint,
        } = location;
        let name = format!("s3://{bucket}/{prefix}");
        let address = match endpoint {
            Some(endpoint) => format!("{}/{bucket}/", endpoint.as_str().trim_end_matches('/')),
            // Names with dots do not fit Amazon's certificates.
            None if bucket.contains('.') => format!("https://s3.{region}.amazonaws.com/{bucket}/"),
            None => format!("https://{bucket}.s3.{region}.amazonaws.com/"),
        };
        let base = Url::parse(&address).map_err(|error| Error::invalid(&name, &error))?;
        Ok(Self {
            client: http::client(&base)?,
            name,
            base,
            prefix: prefix.clone(),
            region: region.clone(),
        })
    }
}

impl BlobStore for S3 {
    fn name(&self) -> &str {
        &self.name
    }

    fn range(&self, digest: &Digest, range: Range<u64>) -> BoxFuture<'_, Result<ByteStream, Error>> {
        let what = format!("object {}{}", self.name, digest.digest());
        let path = format!("{}{}{}", self.base.path(), escape(&self.prefix), digest.digest());
        async move {
            let mut url = self.base.clone();
            url.set_path(&path);
            // Read anew each time, so that keys that are renewed count at once.
            let keys = blocking(|| Ok(keys())).await?;
            let mut request = self.client.get(url.clone());
            if let Some(keys) = keys {
                let region = self.region.as_str();
                let signer = Signer {
                    keys: &keys,
                    region,
                    service: "s3",
                };
                let range = http::range_header(&range);
                for (name, value) in signer.headers(&url, &path, &[("range", &range)], SystemTime::now()) {
                    request = request.header(name, value);
                }
            }
            http::fetch(request, &what, range).await
        }
        .boxed()
    }
}

/// Keys from the environment, else from Amazon's credentials file, profile `AWS_PROFILE` or `default`. Without any,
/// requests are not signed.
fn keys() -> Option<Keys> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let (Some(id), Some(secret)) = (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
        let token = variable("AWS_SESSION_TOKEN");
        return Some(Keys { id, secret, token });
    }
    let file = variable("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from);
    let file = file.or_else(|| Some(Path::new(&variable("HOME")?).join(".aws/credentials")))?;
    let text = std::fs::read_to_string(file).ok()?;
    read_profile(
        &text,
        &variable("AWS_PROFILE").unwrap_or_else(|| "default".to_owned()),
    )
}

/// Reads one profile of a credentials file.
fn read_profile(text: &str, profile: &str) -> Option<Keys> {
    let lines = text.lines().map(str::trim);
    let section = lines
        .skip_while(|line| *line != format!("[{profile}]"))
        .skip(1)
        .take_while(|line| !line.starts_with('['));
    let pairs: Vec<_> = section
        .filter(|line| !line.starts_with(['#', ';']))
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim(), value.trim()))
        .collect();
    let get = |name| {
        let found = pairs.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    Some(Keys {
        id: get("aws_access_key_id")?,
        secret: get("aws_secret_access_key")?,
        token: get("aws_session_token"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_profile_is_read() {
        let text = "# keys\n[other]\naws_access_key_id = A\naws_secret_access_key = B\n\n[default]\n\
                    aws_access_key_id=C\n; no\naws_secret_access_key = D=\naws_session_token = E\n[last]\n";
        let read = |profile| read_profile(text, profile).map(|keys| (keys.id, keys.secret, keys.token));
        assert_eq!(read("default"), Some(("C".into(), "D=".into(), Some("E".into()))));
        assert_eq!(read("other"), Some(("A".into(), "B".into(), None)));
        assert_eq!(read("last"), None);
        assert_eq!(read("none"), None);
    }
}
