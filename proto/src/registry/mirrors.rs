//! One request, to one host of a registry after the other until one answers.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oci_spec::image::Digest;
use reqwest::Response;
use tokio::time::Instant;

use super::auth::Auth;
use super::client::{Client, Patience, Request};
use super::health::{self, Blame, Ledger};
use super::hosts::Capabilities;
use super::network::HostList;
use crate::image::{Error, Options, blocking};

/// How old what is known of the files may be: they are read again at the next request. Reading them costs less than a
/// request.
const REREAD_AFTER: Duration = Duration::from_secs(5);

/// What a request needs of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Pull,
    Resolve,
}

impl Need {
    fn is_met(self, capabilities: Capabilities) -> bool {
        match self {
            Self::Pull => capabilities.pull,
            Self::Resolve => capabilities.resolve,
        }
    }
}

/// An answer, and the number of the host that gave it.
pub(super) struct Answer {
    pub(super) response: Response,
    pub(super) host: usize,
}

/// The hosts of one repository: its mirrors, and the registry itself as the last. Cheap to clone.
#[derive(Clone)]
pub(super) struct Mirrors {
    shared: Arc<Shared>,
}

struct Shared {
    namespace: String,
    repository: String,
    options: Options,
    current: Mutex<Current>,
    ledger: Mutex<Ledger>,
}

/// What the files said when they were last read.
struct Current {
    roster: Arc<Roster>,
    read_at: Instant,
}

/// The hosts, numbered in the order to ask them.
pub(super) struct Roster {
    list: HostList,
    mirrors: Vec<Client>,
    registry: Client,
}

impl Roster {
    fn new(list: HostList, repository: &str, options: &Options) -> Self {
        let client = |host: &Arc<_>, given| {
            let auth = Auth::new(host, repository, given, options.network.keyring());
            Client::new(Arc::clone(host), auth)
        };
        // What the user gave is for the registry that was named; a mirror has no business with it.
        let registry = client(&list.server, options.credentials.clone());
        let mirrors = list.mirrors.iter().map(|host| client(host, None)).collect();
        Self {
            list,
            mirrors,
            registry,
        }
    }

    fn client(&self, host: usize) -> &Client {
        self.mirrors.get(host).unwrap_or(&self.registry)
    }
}

impl Mirrors {
    /// Blocking: reads what is configured.
    pub(super) fn new(namespace: &str, repository: &str, options: &Options) -> Result<Self, Error> {
        let list = options.network.hosts(namespace, options.plain_http)?;
        let roster = Arc::new(Roster::new(list, repository, options));
        let read_at = Instant::now();
        Ok(Self {
            shared: Arc::new(Shared {
                namespace: namespace.to_owned(),
                repository: repository.to_owned(),
                options: options.clone(),
                current: Mutex::new(Current { roster, read_at }),
                ledger: Mutex::default(),
            }),
        })
    }

    /// The registry itself.
    pub(super) fn registry(&self) -> Client {
        self.roster().registry.clone()
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        // It is whole at any time, so a panic elsewhere does not spoil it.
        self.shared.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn roster(&self) -> Arc<Roster> {
        Arc::clone(&self.current().roster)
    }

    /// Reads again what is configured, if that is some time ago. Files that cannot be used change nothing.
    async fn refresh(&self) -> Arc<Roster> {
        {
            let mut current = self.current();
            if current.read_at.elapsed() < REREAD_AFTER {
                return Arc::clone(&current.roster);
            }
            // Others go on with what is known meanwhile.
            current.read_at = Instant::now();
        }
        let shared = Arc::clone(&self.shared);
        let read = blocking(move || {
            let Shared {
                namespace, options, ..
            } = &*shared;
            options.network.hosts(namespace, options.plain_http)
        });
        match read.await {
            Ok(list) if !list.is_same(&self.roster().list) => {
                let roster = Roster::new(list, &self.shared.repository, &self.shared.options);
                self.current().roster = Arc::new(roster);
                // Hosts have other numbers now.
                *self.ledger() = Ledger::default();
                tracing::info!(
                    registry = self.shared.namespace,
                    "the hosts of a registry have changed"
                );
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(registry = self.shared.namespace, %error, "hosts stay as they were");
            }
        }
        self.roster()
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // It is whole at any time, so a panic elsewhere does not spoil it.
        self.shared.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hosts to ask, in their order. The registry is among them even if it is said to lack a capability: else a
    /// request could have nowhere to go.
    fn order(&self, roster: &Roster, need: Need, digest: Option<&Digest>) -> Vec<usize> {
        let capable = roster.mirrors.iter().enumerate();
        let capable = capable.filter(|(_, client)| need.is_met(client.host.capabilities));
        let all = capable.chain([(roster.mirrors.len(), &roster.registry)]);
        let states: Vec<_> = all.map(|(host, client)| (host, *client.host.health())).collect();
        self.ledger().order(&states, digest, Instant::now())
    }

    /// Makes the next request read the files.
    #[cfg(test)]
    pub(super) fn outdate(&self) {
        let mut current = self.current();
        current.read_at = current
            .read_at
            .checked_sub(REREAD_AFTER)
            .unwrap_or(current.read_at);
    }

    /// How many hosts there are to try.
    pub(super) fn count(&self) -> usize {
        self.roster().mirrors.len() + 1
    }

    /// Sends a request about `digest`, or about a tag, to one host after the other; the answer is a success.
    pub(super) async fn send(
        &self,
        request: &Request,
        need: Need,
        digest: Option<&Digest>,
    ) -> Result<Answer, Error> {
        let roster = self.refresh().await;
        let order = self.order(&roster, need, digest);
        let mut failure = None;
        for (place, host) in order.iter().copied().enumerate() {
            let patience = match place + 1 == order.len() {
                true => Patience::Full,
                false => Patience::Short,
            };
            let client = roster.client(host);
            client.host.health().ask(Instant::now());
            match client.send(request, patience).await {
                Ok(response) => {
                    client.host.health().succeed();
                    return Ok(Answer { response, host });
                }
                Err(error) => {
                    self.failed(host, digest, &error);
                    failure = Some(health::telling(failure, error));
                }
            }
        }
        // The order is never empty: the registry is in it.
        Err(failure.unwrap_or_else(|| Error::invalid(&request.what, "no host can be asked for it")))
    }

    /// Remembers that a host failed.
    pub(super) fn failed(&self, host: usize, digest: Option<&Digest>, error: &Error) {
        let (roster, now) = (self.roster(), Instant::now());
        let client = roster.client(host);
        tracing::debug!(host = client.host.name, %error, "a host failed");
        match (health::blame(error), digest) {
            (Blame::Host(asked), _) => client.host.health().fail(now, asked),
            // It answered: only this it cannot give.
            (blame, Some(digest)) => {
                client.host.health().succeed();
                self.ledger().suspect(host, digest, blame, now);
            }
            (_, None) => client.host.health().succeed(),
        }
    }

    /// A host sends a range of a blob.
    pub(super) fn note(&self, host: usize, digest: &Digest, range: Range<u64>) {
        self.ledger().note(host, digest, range);
    }

    /// The bytes of a range were not what they should be: whoever sent them is not asked for this blob for a while.
    pub(super) fn distrust(&self, digest: &Digest, range: &Range<u64>) {
        let mut ledger = self.ledger();
        let Some(host) = ledger.sender(digest, range) else {
            return;
        };
        ledger.suspect(host, digest, Blame::Bytes, Instant::now());
        let roster = self.roster();
        let name = &roster.client(host).host.name;
        tracing::warn!(host = name, blob = %digest, ?range, "a host gave bad bytes");
    }
}
