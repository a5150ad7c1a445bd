//! A folder of Kubernetes pull secrets, as a secret volume or an operator puts them there.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{CredentialSource, Credentials, files};

/// The name of the file in a secret volume.
const FILE_NAME: &str = ".dockerconfigjson";
/// Entries of a folder that are looked at: nodes have some dozens of secrets.
const COUNT_MAX: usize = 1000;

/// A folder of pull secrets. Read anew for each search.
pub(super) struct Secrets {
    folder: PathBuf,
}

/// The one part of a secret that counts: one that names a helper would start a program of the node.
#[derive(Deserialize, Serialize)]
struct Logins {
    #[serde(default)]
    auths: serde_json::Map<String, serde_json::Value>,
}

impl Secrets {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The files, in the order of their names.
    fn files(&self) -> Vec<PathBuf> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(folder = %self.folder.display(), %error, "pull secrets cannot be read");
                return Vec::new();
            }
        };
        let entries = entries.flatten().take(COUNT_MAX).map(|entry| entry.path());
        let mut files: Vec<_> = entries
            .filter_map(|path| match path.is_dir() {
                // Kubernetes keeps the files themselves in folders that begin with two dots, for its own use.
                true if is_hidden(&path) => None,
                true => Some(path.join(FILE_NAME)),
                false => {
                    let is_json = path.extension().is_some_and(|extension| extension == "json");
                    (is_json || path.ends_with(FILE_NAME)).then_some(path)
                }
            })
            .collect();
        files.sort();
        files
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b".."))
}

impl CredentialSource for Secrets {
    fn find(&self, host: &str, repository: &str) -> Option<Credentials> {
        self.files().iter().find_map(|file| {
            let content = files::read(file)?;
            let Ok(logins) = serde_json::from_slice::<Logins>(&content) else {
                tracing::warn!(file = %file.display(), "a pull secret is not valid JSON; it is ignored");
                return None;
            };
            let logins = serde_json::to_vec(&logins).ok()?;
            files::find_among(&logins, file, host, repository)
        })
    }
}
