//! Where a registry's images can be had, as containerd is told: `hosts.toml` in a folder per registry.
//!
//! ```text
//! certs.d/docker.io/hosts.toml   certs.d/registry.example:5000/hosts.toml   certs.d/_default/hosts.toml
//! ```
//! Without a `hosts.toml`, certificates lie in the folder itself, as docker has them: `*.crt` to trust, `*.cert` with
//! `*.key` to show.

mod file;
#[cfg(test)]
mod tests;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderMap;

use crate::image::Error;

/// The folder for registries that have none of their own.
const DEFAULT_FOLDER: &str = "_default";
/// Longest `hosts.toml` that is read: real ones have some hundred bytes.
const FILE_LEN_MAX: u64 = 1 << 20;

/// What may be asked of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capabilities {
    /// Manifests and blobs by digest.
    pub(super) pull: bool,
    /// Manifests by tag.
    pub(super) resolve: bool,
}

impl Capabilities {
    pub(super) const ALL: Self = Self {
        pull: true,
        resolve: true,
    };
}

/// A certificate to show, and its key: in one file or in two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClientCertificate {
    pub(super) certificate: PathBuf,
    pub(super) key: Option<PathBuf>,
}

/// Whom to trust, and what to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tls {
    pub(super) authorities: Vec<PathBuf>,
    pub(super) client: Vec<ClientCertificate>,
    /// Takes any certificate.
    pub(super) skip_verify: bool,
}

/// How one host is reached.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct HostSpec {
    /// The address of its API, with a trailing slash. `None`: what the registry's name stands for.
    pub(super) base: Option<Url>,
    pub(super) capabilities: Capabilities,
    pub(super) tls: Tls,
    pub(super) headers: HeaderMap,
    pub(super) dial_timeout: Option<Duration>,
}

impl HostSpec {
    /// The registry itself, with nothing special about it.
    pub(super) fn plain() -> Self {
        Self {
            base: None,
            capabilities: Capabilities::ALL,
            tls: Tls::default(),
            headers: HeaderMap::new(),
            dial_timeout: None,
        }
    }
}

/// The hosts of a registry: the mirrors in their order, and the registry itself, which is asked last.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Hosts {
    pub(super) mirrors: Vec<HostSpec>,
    pub(super) server: HostSpec,
}

/// Looks up the hosts of the registry `namespace` (such as `registry.example:5000`). Blocking.
pub(super) fn find(folder: Option<&Path>, namespace: &str) -> Result<Hosts, Error> {
    let candidates = folder.into_iter().flat_map(|folder| folders(folder, namespace));
    for folder in candidates {
        let path = folder.join("hosts.toml");
        match read(&path) {
            Ok(text) => return file::parse(&text, &path),
            Err(error) if error.kind() == ErrorKind::NotFound && folder.is_dir() => {
                let server = HostSpec {
                    tls: certificates(&folder).map_err(Error::file(&folder))?,
                    ..HostSpec::plain()
                };
                return Ok(Hosts {
                    mirrors: Vec::new(),
                    server,
                });
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(Error::File { path, source }),
        }
    }
    Ok(Hosts {
        mirrors: Vec::new(),
        server: HostSpec::plain(),
    })
}

/// The folders that may speak for a registry, in containerd's order.
fn folders(folder: &Path, namespace: &str) -> Vec<PathBuf> {
    let with_port = namespace
        .rsplit_once(':')
        .map(|(host, port)| format!("{host}_{port}_"));
    let names = with_port
        .into_iter()
        .chain([namespace.to_owned(), DEFAULT_FOLDER.to_owned()]);
    // Names come from image references, which hold no slash before the repository; a dot name would leave the folder.
    names
        .filter(|name| !name.contains('/') && name != "." && name != "..")
        .map(|name| folder.join(name))
        .collect()
}

fn read(path: &Path) -> std::io::Result<String> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(std::io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    if metadata.len() > FILE_LEN_MAX {
        return Err(std::io::Error::new(ErrorKind::FileTooLarge, "longer than 1 MiB"));
    }
    std::fs::read_to_string(path)
}

/// Certificates as docker has them.
fn certificates(folder: &Path) -> std::io::Result<Tls> {
    let mut tls = Tls::default();
    let mut paths: Vec<_> = std::fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    paths.sort();
    for path in paths {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => tls.authorities.push(path),
            Some("cert") => {
                let key = Some(path.with_extension("key"));
                tls.client.push(ClientCertificate {
                    certificate: path,
                    key,
                });
            }
            _ => {}
        }
    }
    Ok(tls)
}
