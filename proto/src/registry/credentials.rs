//! Who we are to a registry: given credentials, else those of the places that have some.
//!
//! | place | what |
//! |---|---|
//! | `pulled` | logins with which images were pulled through this process |
//! | `secrets` | a folder of Kubernetes pull secrets |
//! | `kubelet` | the kubelet's credential providers |
//! | `files` | the files of docker, podman and skopeo, and their helpers |
//!
//! Of files and programs nothing is kept, so that a secret that is renewed counts at once. Nothing is written or logged.

mod files;
mod kubelet;
mod pattern;
mod pulled;
mod secrets;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use self::files::Files;
use self::kubelet::Kubelet;
pub(super) use self::pulled::Pulled;
use self::secrets::Secrets;
use crate::image::Login;

/// What to authenticate with. `Debug` never shows a secret.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    Anonymous,
    Password {
        user: String,
        password: String,
    },
    /// A refresh token for the registry's token service.
    IdentityToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => formatter.write_str("Anonymous"),
            Self::Password { user, .. } => write!(formatter, "Password({user}, ***)"),
            Self::IdentityToken(_) => formatter.write_str("IdentityToken(***)"),
        }
    }
}

impl From<&Login> for Credentials {
    fn from(Login { user, password }: &Login) -> Self {
        match user.is_empty() {
            true => Self::IdentityToken(password.clone()),
            false => Self::Password {
                user: user.clone(),
                password: password.clone(),
            },
        }
    }
}

/// A place that may know who we are.
trait CredentialSource: Send + Sync {
    /// Looks for what to show to `host` for `repository`, the most specific there is. Blocking: it may run programs. `None`
    /// if there is nothing, or it cannot be read, which is logged without a secret.
    fn find(&self, host: &str, repository: &str) -> Option<Credentials>;
}

/// Where credentials are looked for, beside the files of docker, podman and skopeo.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialPlaces {
    /// A folder of pull secrets: `*.json`, `.dockerconfigjson`, and `.dockerconfigjson` in folders within.
    pub secrets_dir: Option<PathBuf>,
    /// The kubelet's `CredentialProviderConfig`, and the folder of its programs.
    pub kubelet: Option<(PathBuf, PathBuf)>,
}

/// All places, in the order to look.
pub(super) struct Keyring {
    pulled: Arc<Pulled>,
    places: Vec<Box<dyn CredentialSource>>,
}

impl Default for Keyring {
    fn default() -> Self {
        Self::new(&CredentialPlaces::default())
    }
}

impl Keyring {
    pub(super) fn new(places: &CredentialPlaces) -> Self {
        let pulled = Arc::<Pulled>::default();
        let mut sources: Vec<Box<dyn CredentialSource>> = vec![Box::new(Arc::clone(&pulled))];
        if let Some(folder) = &places.secrets_dir {
            sources.push(Box::new(Secrets::new(folder.clone())));
        }
        if let Some((config, programs)) = &places.kubelet {
            sources.push(Box::new(Kubelet::new(config.clone(), programs.clone())));
        }
        sources.push(Box::new(Files));
        Self {
            pulled,
            places: sources,
        }
    }

    /// Logins with which images were pulled through this process.
    pub(super) fn pulled(&self) -> &Pulled {
        &self.pulled
    }

    /// Looks through all places. `refused` is what the host did not take just now: another place may have better.
    /// Blocking.
    pub(super) fn find(&self, host: &str, repository: &str, refused: Option<&Credentials>) -> Credentials {
        let places = self.places.iter();
        let found = places.filter_map(|place| place.find(host, repository));
        let mut last = None;
        for credentials in found {
            if Some(&credentials) != refused {
                return credentials;
            }
            last = Some(credentials);
        }
        last.unwrap_or(Credentials::Anonymous)
    }
}
