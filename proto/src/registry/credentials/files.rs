//! What docker, podman and skopeo keep in files.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use docker_credential::{CredentialRetrievalError, DockerCredential};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{CredentialSource, Credentials};

/// The key under which docker keeps the credentials of `docker.io`.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// The files of docker, podman and skopeo, with the credential helpers they name.
pub(super) struct Files;

impl CredentialSource for Files {
    fn find(&self, host: &str, repository: &str) -> Option<Credentials> {
        files().iter().find_map(|file| find_in(file, host, repository))
    }
}

/// Credential files, in the order of podman; docker's is last.
fn files() -> Vec<PathBuf> {
    let variable = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if let Some(file) = variable("REGISTRY_AUTH_FILE") {
        return vec![file];
    }
    let home = variable("HOME");
    let runtime = variable("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json"));
    let config = variable("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
    let docker = variable("DOCKER_CONFIG").or_else(|| home.map(|home| home.join(".docker")));
    let mut files = vec![runtime.unwrap_or_else(|| PathBuf::from("/run/containers/0/auth.json"))];
    files.extend(config.map(|folder| folder.join("containers/auth.json")));
    files.extend(docker.map(|folder| folder.join("config.json")));
    files
}

/// The keys of a file's `auths`.
#[derive(Deserialize)]
struct Keys {
    #[serde(default)]
    auths: HashMap<String, IgnoredAny>,
}

/// Looks for a host in a file, most specific key first.
fn find_in(file: &Path, host: &str, repository: &str) -> Option<Credentials> {
    find_among(&read(file)?, file, host, repository)
}

/// The content of a credential file, if there is one.
pub(super) fn read(file: &Path) -> Option<Vec<u8>> {
    match fs::read(file) {
        Ok(content) => Some(content),
        Err(error) => {
            match error.kind() {
                // Another user's runtime folder is no fault.
                ErrorKind::NotFound | ErrorKind::PermissionDenied => {
                    tracing::debug!(file = %file.display(), %error, "no credential file");
                }
                _ => tracing::warn!(file = %file.display(), %error, "credential file cannot be read"),
            }
            None
        }
    }
}

/// Looks for a host in the content of `file`.
pub(super) fn find_among(content: &[u8], file: &Path, host: &str, repository: &str) -> Option<Credentials> {
    let Ok(keys) = serde_json::from_slice::<Keys>(content) else {
        tracing::warn!(file = %file.display(), "credential file is not valid JSON; it is ignored");
        return None;
    };
    // Keys below the host are looked up only when they are there, since each look-up may start a helper.
    let scoped = scoped_keys(host, repository)
        .into_iter()
        .filter(|key| keys.auths.contains_key(key));
    let whole = if host == "docker.io" { DOCKER_HUB_KEY } else { host };
    scoped
        .chain([whole.to_owned()])
        .find_map(|key| look_up(content, &key, file))
}

/// `host/a/b`, `host/a` for the repository `a/b`.
fn scoped_keys(host: &str, repository: &str) -> Vec<String> {
    let mut key = format!("{host}/{repository}");
    let mut keys = Vec::new();
    while key.len() > host.len() {
        keys.push(key.clone());
        key.truncate(key.rfind('/').unwrap_or(0));
    }
    keys
}

fn look_up(content: &[u8], key: &str, file: &Path) -> Option<Credentials> {
    match docker_credential::get_credential_from_reader(content, key) {
        Ok(DockerCredential::IdentityToken(token)) => Some(Credentials::IdentityToken(token)),
        Ok(DockerCredential::UsernamePassword(user, password)) => {
            Some(Credentials::Password { user, password })
        }
        // A helper says so too when it has nothing for this registry; its output may hold anything, so it is not shown.
        Err(
            CredentialRetrievalError::NoCredentialConfigured | CredentialRetrievalError::HelperFailure { .. },
        ) => None,
        Err(error) => {
            tracing::warn!(file = %file.display(), key, %error, "credentials cannot be read; they are ignored");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find_in_text(text: &str, host: &str, repository: &str) -> Option<Credentials> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        find_in(file.path(), host, repository)
    }

    fn password(user: &str, password: &str) -> Option<Credentials> {
        Some(Credentials::Password {
            user: user.into(),
            password: password.into(),
        })
    }

    #[test]
    fn the_most_specific_key_wins() {
        // Base64 of one:1, two:2, hub:3.
        let text = r#"{"auths": {"a.io": {"auth": "b25lOjE="}, "a.io/team": {"auth": "dHdvOjI="},
            "https://index.docker.io/v1/": {"auth": "aHViOjM="}, "t.io": {"identitytoken": "tok"}}}"#;
        assert_eq!(find_in_text(text, "a.io", "other/x"), password("one", "1"));
        assert_eq!(find_in_text(text, "a.io", "team/x/y"), password("two", "2"));
        assert_eq!(find_in_text(text, "a.io", "teams"), password("one", "1"));
        assert_eq!(
            find_in_text(text, "docker.io", "library/python"),
            password("hub", "3")
        );
        assert_eq!(
            find_in_text(text, "t.io", "x"),
            Some(Credentials::IdentityToken("tok".into()))
        );
        assert_eq!(find_in_text(text, "b.io", "x"), None);
    }

    #[test]
    fn damaged_files_count_as_empty() {
        for text in [
            "",
            "[]",
            "{",
            r#"{"auths": {"a.io": {"auth": "!"}}}"#,
            r#"{"auths": {"a.io": {}}}"#,
        ] {
            assert_eq!(find_in_text(text, "a.io", "x"), None, "{text}");
        }
        assert_eq!(find_in(Path::new("/nonexistent/auth.json"), "a.io", "x"), None);
    }
}
