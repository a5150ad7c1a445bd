//! The keys about how registries are reached.

use std::path::{Path, PathBuf};

use proto::registry::CredentialPlaces;
use serde::{Deserialize, Serialize};

use super::Error;

/// Where containerd's documentation has its socket.
const CONTAINERD_ADDRESS: &str = "/run/containerd/containerd.sock";

/// How registries are reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registry {
    /// Hosts, with port, that speak plain HTTP.
    pub plain_http: Vec<String>,
    /// Folder of containerd's `hosts.toml` files. Empty: none.
    pub hosts_dir: PathBuf,
    /// Folder of pull secrets. Empty: none.
    pub pull_secrets_dir: PathBuf,
    /// The kubelet's configuration of credential providers. Empty: none.
    pub credential_providers: PathBuf,
    /// Folder of the kubelet's credential providers.
    pub credential_provider_dir: PathBuf,
    /// Socket on which the CRI's image service is passed on. Empty: none.
    pub cri_image_socket: PathBuf,
    /// Socket of the containerd to which it is passed on.
    pub cri_containerd: PathBuf,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            plain_http: Vec::new(),
            // Where containerd's documentation puts them, and most installers do.
            hosts_dir: "/etc/containerd/certs.d".into(),
            pull_secrets_dir: PathBuf::new(),
            credential_providers: PathBuf::new(),
            credential_provider_dir: PathBuf::new(),
            cri_image_socket: PathBuf::new(),
            cri_containerd: CONTAINERD_ADDRESS.into(),
        }
    }
}

fn is_set(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

impl Registry {
    /// Where credentials are looked for, beside the files of docker and podman.
    pub fn credential_places(&self) -> CredentialPlaces {
        let set = |path: &PathBuf| is_set(path).then(|| path.clone());
        CredentialPlaces {
            secrets_dir: set(&self.pull_secrets_dir),
            kubelet: set(&self.credential_providers).zip(set(&self.credential_provider_dir)),
        }
    }

    /// Where the CRI's image service is passed on, and to which containerd, if it is.
    pub fn image_service(&self) -> Option<(&Path, &Path)> {
        is_set(&self.cri_image_socket).then_some((&self.cri_image_socket, &self.cri_containerd))
    }

    /// Checks values.
    pub(super) fn check(&self) -> Result<(), Error> {
        let value = |key, reason: &str| {
            Err(Error::Value {
                key,
                reason: reason.to_owned(),
            })
        };
        if let Some(host) = self.plain_http.iter().find(|host| host.contains('/')) {
            return value(
                "registry.plain_http",
                &format!("{host:?} must be host or host:port"),
            );
        }
        for (key, path) in [
            ("registry.hosts_dir", &self.hosts_dir),
            ("registry.pull_secrets_dir", &self.pull_secrets_dir),
            ("registry.credential_providers", &self.credential_providers),
            ("registry.credential_provider_dir", &self.credential_provider_dir),
            ("registry.cri_image_socket", &self.cri_image_socket),
            ("registry.cri_containerd", &self.cri_containerd),
        ] {
            if is_set(path) && !path.is_absolute() {
                return value(key, "it must be an absolute path, or empty");
            }
        }
        if is_set(&self.credential_providers) != is_set(&self.credential_provider_dir) {
            let reason = "it needs registry.credential_provider_dir, the folder of the programs, and the other way round";
            return value("registry.credential_providers", reason);
        }
        if is_set(&self.cri_image_socket) && !is_set(&self.cri_containerd) {
            let reason = "it needs registry.cri_containerd, the socket of containerd";
            return value("registry.cri_image_socket", reason);
        }
        Ok(())
    }
}
