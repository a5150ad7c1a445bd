//! What all images of a process know about registries: which hosts have their images, and how those do.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::credentials::{CredentialPlaces, Keyring};
use super::host::Host;
use super::hosts::{self, Hosts};
use crate::image::{Error, Login, Reference};

/// How registries are reached by all images of a process. They share connections and the health of hosts through it.
#[derive(Default)]
pub struct Network {
    hosts_dir: Option<PathBuf>,
    keyring: Arc<Keyring>,
    known: Mutex<HashMap<(String, bool), Known>>,
}

/// The hosts of a registry.
#[derive(Clone)]
pub(super) struct HostList {
    /// In the order to ask them.
    pub(super) mirrors: Vec<Arc<Host>>,
    /// The registry itself.
    pub(super) server: Arc<Host>,
}

impl HostList {
    /// Whether these are the same hosts with the same connections.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.server, &other.server)
    }
}

/// The hosts of a registry, and what was said of them when they were made.
struct Known {
    said: Hosts,
    hosts: HostList,
}

impl Network {
    /// Finds mirrors in a folder of containerd's `hosts.toml` files, such as `/etc/containerd/certs.d`, if there is one.
    pub fn new(hosts_dir: Option<PathBuf>) -> Self {
        Self {
            hosts_dir,
            ..Self::default()
        }
    }

    /// Looks for credentials in these places, too.
    pub fn with_credentials(self, places: &CredentialPlaces) -> Self {
        Self {
            keyring: Arc::new(Keyring::new(places)),
            ..self
        }
    }

    /// Remembers with what the image at a reference was pulled, for its repository, until the process ends. Without a user
    /// name the password is an identity token.
    pub fn remember(&self, reference: &Reference, login: &Login) {
        let pulled = self.keyring.pulled();
        pulled.remember(&reference.host, &reference.repository, login.into());
    }

    /// Forgets a login that turned out to be of no use, unless another one was used since.
    pub fn forget(&self, reference: &Reference, login: &Login) {
        let pulled = self.keyring.pulled();
        pulled.forget(&reference.host, &reference.repository, &login.into());
    }

    pub(super) fn keyring(&self) -> Arc<Keyring> {
        Arc::clone(&self.keyring)
    }

    /// The hosts of the registry `namespace`. Made anew when the files say something else than before. Blocking.
    pub(super) fn hosts(&self, namespace: &str, plain_http: bool) -> Result<HostList, Error> {
        let said = hosts::find(self.hosts_dir.as_deref(), namespace)?;
        let key = (namespace.to_owned(), plain_http);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(&key).filter(|known| known.said == said) {
            return Ok(known.hosts.clone());
        }
        let host = |spec| Ok::<_, Error>(Arc::new(Host::new(spec, namespace, plain_http)?));
        let hosts = HostList {
            mirrors: said.mirrors.iter().map(host).collect::<Result<_, _>>()?,
            server: host(&said.server)?,
        };
        let fresh = Known {
            said,
            hosts: hosts.clone(),
        };
        known.insert(key, fresh);
        Ok(hosts)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Network")
            .field("hosts_dir", &self.hosts_dir)
            .finish_non_exhaustive()
    }
}
