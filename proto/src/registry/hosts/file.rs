//! The text of a `hosts.toml`.

use std::collections::BTreeMap;
use std::path::Path;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use super::{Capabilities, ClientCertificate, HostSpec, Hosts, Tls};
use crate::image::Error;
use crate::registry::endpoint;

/// A host's table. The same keys beside `server` are about the server. Other keys are containerd's own matter.
#[derive(Deserialize)]
#[serde(default)]
struct Entry {
    capabilities: Vec<String>,
    ca: Strings,
    client: Clients,
    skip_verify: bool,
    header: BTreeMap<String, Strings>,
    override_path: bool,
    dial_timeout: Option<String>,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            capabilities: ["pull", "resolve", "push"].map(str::to_owned).into(),
            ca: Strings::default(),
            client: Clients::default(),
            skip_verify: false,
            header: BTreeMap::new(),
            override_path: false,
            dial_timeout: None,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Strings {
    One(String),
    Many(Vec<String>),
}

impl Default for Strings {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Strings {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Clients {
    One(String),
    Many(Vec<Strings>),
}

impl Default for Clients {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

/// Reads the text of the file `path`, from whose folder relative paths count.
pub(super) fn parse(text: &str, path: &Path) -> Result<Hosts, Error> {
    let invalid = |reason: String| {
        Error::invalid(
            path.display().to_string(),
            &format!(
                "{reason}; hint: containerd reads this file too, its documentation of hosts.toml has the keys"
            ),
        )
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut table: toml::Table = toml::from_str(text).map_err(|error| invalid(error.to_string()))?;
    let mirrors = match table.remove("host") {
        Some(toml::Value::Table(hosts)) => hosts,
        None => toml::Table::new(),
        Some(_) => {
            return Err(invalid(
                "`host` must hold tables, such as [host.\"https://mirror\"]".to_owned(),
            ));
        }
    };
    let server = match table.remove("server") {
        Some(toml::Value::String(server)) if !server.is_empty() => Some(server),
        Some(toml::Value::String(_)) | None => None,
        Some(_) => return Err(invalid("`server` must be an address".to_owned())),
    };
    let server = host(server.as_deref(), table.into(), folder).map_err(&invalid)?;
    let mirrors = mirrors
        .into_iter()
        .map(|(address, table)| {
            host(Some(&address), table, folder)
                .map_err(|reason| invalid(format!("host {:?}: {reason}", shown(&address))))
        })
        .collect::<Result<_, _>>()?;
    Ok(Hosts { mirrors, server })
}

fn host(address: Option<&str>, table: toml::Value, folder: &Path) -> Result<HostSpec, String> {
    let entry: Entry = table
        .try_into()
        .map_err(|error: toml::de::Error| error.to_string())?;
    let base = address
        .map(|address| base(address, entry.override_path))
        .transpose()?;
    let dial_timeout = entry
        .dial_timeout
        .filter(|text| !text.is_empty())
        .map(|text| {
            humantime::parse_duration(&text).map_err(|error| format!("dial_timeout {text:?}: {error}"))
        })
        .transpose()?;
    let can = |what| entry.capabilities.iter().any(|capability| capability == what);
    Ok(HostSpec {
        base,
        capabilities: Capabilities {
            pull: can("pull"),
            resolve: can("resolve"),
        },
        tls: Tls {
            authorities: entry.ca.into_vec().iter().map(|path| folder.join(path)).collect(),
            client: clients(entry.client, folder)?,
            skip_verify: entry.skip_verify,
        },
        headers: headers(entry.header)?,
        dial_timeout,
    })
}

/// An address without what stands before the `@`, which may be a password.
fn shown(address: &str) -> &str {
    address.rsplit_once('@').map_or(address, |(_, rest)| rest)
}

/// The API's address: `/v2/` is appended unless the path is to be taken as it is.
fn base(address: &str, override_path: bool) -> Result<Url, String> {
    let full = match address.contains("://") {
        true => address.to_owned(),
        false => {
            let host = address.split('/').next().unwrap_or(address);
            let scheme = if endpoint::is_loopback(host) {
                "http"
            } else {
                "https"
            };
            format!("{scheme}://{address}")
        }
    };
    let mut url = Url::parse(&full)
        .map_err(|error| format!("the address {:?} is not valid: {error}", shown(address)))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(format!(
            "the address {:?} must begin with https:// or http://",
            shown(address)
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a password in an address would show in logs; keep it in a credential file".to_owned());
    }
    let path = url.path().trim_end_matches('/');
    let path = match override_path || path.ends_with("/v2") {
        true => format!("{path}/"),
        false => format!("{path}/v2/"),
    };
    url.set_path(&path);
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

fn clients(clients: Clients, folder: &Path) -> Result<Vec<ClientCertificate>, String> {
    let list = match clients {
        Clients::One(path) => vec![Strings::One(path)],
        Clients::Many(list) => list,
    };
    let pair = |strings: Strings| match strings.into_vec().as_slice() {
        [certificate] => Ok((certificate.clone(), None)),
        [certificate, key] => Ok((
            certificate.clone(),
            Some(key.clone()).filter(|key| !key.is_empty()),
        )),
        _ => Err("each `client` is a file, or a pair of certificate and key".to_owned()),
    };
    list.into_iter()
        .map(|strings| {
            let (certificate, key) = pair(strings)?;
            Ok(ClientCertificate {
                certificate: folder.join(certificate),
                key: key.map(|key| folder.join(key)),
            })
        })
        .collect()
}

fn headers(table: BTreeMap<String, Strings>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, values) in table {
        let parsed: HeaderName = name
            .parse()
            .map_err(|_| format!("{name:?} is no name of a header"))?;
        for value in values.into_vec() {
            // Values are not repeated in errors: they may be secrets.
            let mut value = HeaderValue::from_str(&value)
                .map_err(|_| format!("the value of header {name:?} is not valid"))?;
            value.set_sensitive(true);
            headers.append(parsed.clone(), value);
        }
    }
    Ok(headers)
}
