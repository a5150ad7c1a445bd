//! Logins with which images were pulled through this process, such as a kubelet's.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{CredentialSource, Credentials};

/// Logins that are remembered: repositories of a node, with room. Beyond it the oldest goes.
const COUNT_MAX: usize = 1000;

/// The last login for each repository, in memory only.
#[derive(Default)]
pub(in crate::registry) struct Pulled {
    /// The newest last.
    logins: Mutex<Vec<Login>>,
}

struct Login {
    host: String,
    repository: String,
    credentials: Credentials,
}

impl Login {
    fn is_for(&self, host: &str, repository: &str) -> bool {
        self.host == host && self.repository == repository
    }
}

impl Pulled {
    /// Remembers a login, in place of an earlier one for the same repository.
    pub(in crate::registry) fn remember(&self, host: &str, repository: &str, credentials: Credentials) {
        let mut logins = self.lock();
        logins.retain(|login| !login.is_for(host, repository));
        if logins.len() == COUNT_MAX {
            logins.remove(0);
        }
        logins.push(Login {
            host: host.to_owned(),
            repository: repository.to_owned(),
            credentials,
        });
    }

    /// Forgets a login that turned out to be of no use, unless there is another one by now.
    pub(in crate::registry) fn forget(&self, host: &str, repository: &str, credentials: &Credentials) {
        self.lock()
            .retain(|login| !login.is_for(host, repository) || login.credentials != *credentials);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Login>> {
        // It is whole at any time, so a panic elsewhere does not spoil it.
        self.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CredentialSource for std::sync::Arc<Pulled> {
    fn find(&self, host: &str, repository: &str) -> Option<Credentials> {
        let logins = self.lock();
        let found = logins.iter().find(|login| login.is_for(host, repository));
        found.map(|login| login.credentials.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn password(user: &str) -> Credentials {
        Credentials::Password {
            user: user.to_owned(),
            password: "p".to_owned(),
        }
    }

    #[test]
    fn the_last_login_of_a_repository_counts() {
        let pulled = Arc::new(Pulled::default());
        pulled.remember("a.io", "team/x", password("one"));
        pulled.remember("a.io", "team/x", password("two"));
        assert_eq!(pulled.find("a.io", "team/x"), Some(password("two")));
        assert_eq!(pulled.find("a.io", "team/y"), None);
        assert_eq!(pulled.find("b.io", "team/x"), None);
        pulled.forget("a.io", "team/x", &password("one"));
        assert_eq!(pulled.find("a.io", "team/x"), Some(password("two")));
        pulled.forget("a.io", "team/x", &password("two"));
        assert_eq!(pulled.find("a.io", "team/x"), None);
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_goes() {
        let pulled = Arc::new(Pulled::default());
        for number in 0..=COUNT_MAX {
            pulled.remember("a.io", &number.to_string(), password("me"));
        }
        assert_eq!(pulled.find("a.io", "0"), None);
        assert!(pulled.find("a.io", "1").is_some());
        assert_eq!(pulled.lock().len(), COUNT_MAX);
    }
}
