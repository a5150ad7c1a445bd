//! One request, to one host of a registry after the other until one answers.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oci_spec::image::Digest;
use reqwest::Response;
use tokio::time::Instant;

use super::auth::Auth;
use super::client::{Client, Patience, Request};
use super::health::{self, Blame, Ledger};
use super::hosts::Capabilities;
use crate::image::{Error, Options};

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
    mirrors: Vec<Client>,
    registry: Client,
    ledger: Mutex<Ledger>,
}

impl Mirrors {
    /// Blocking: reads what is configured.
    pub(super) fn new(namespace: &str, repository: &str, options: &Options) -> Result<Self, Error> {
        let hosts = options.network.hosts(namespace, options.plain_http)?;
        let client = |host: &Arc<_>, given| Client::new(Arc::clone(host), Auth::new(host, repository, given));
        // What the user gave is for the registry that was named; a mirror has no business with it.
        let registry = client(&hosts.server, options.credentials.clone());
        let mirrors = hosts.mirrors.iter().map(|host| client(host, None)).collect();
        Ok(Self {
            shared: Arc::new(Shared {
                mirrors,
                registry,
                ledger: Mutex::default(),
            }),
        })
    }

    /// The registry itself.
    pub(super) fn registry(&self) -> &Client {
        &self.shared.registry
    }

    fn client(&self, host: usize) -> &Client {
        self.shared.mirrors.get(host).unwrap_or(&self.shared.registry)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // It is whole at any time, so a panic elsewhere does not spoil it.
        self.shared.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hosts to ask, in their order. The registry is among them even if it is said to lack a capability: else a
    /// request could have nowhere to go.
    fn order(&self, need: Need, digest: Option<&Digest>) -> Vec<usize> {
        let capable = self.shared.mirrors.iter().enumerate();
        let capable = capable.filter(|(_, client)| need.is_met(client.host.capabilities));
        let all = capable.chain([(self.shared.mirrors.len(), self.registry())]);
        let states: Vec<_> = all.map(|(host, client)| (host, *client.host.health())).collect();
        self.ledger().order(&states, digest, Instant::now())
    }

    /// How many hosts there are to try.
    pub(super) fn count(&self) -> usize {
        self.shared.mirrors.len() + 1
    }

    /// Sends a request about `digest`, or about a tag, to one host after the other; the answer is a success.
    pub(super) async fn send(
        &self,
        request: &Request,
        need: Need,
        digest: Option<&Digest>,
    ) -> Result<Answer, Error> {
        let order = self.order(need, digest);
        let mut failure = None;
        for (place, host) in order.iter().copied().enumerate() {
            let patience = match place + 1 == order.len() {
                true => Patience::Full,
                false => Patience::Short,
            };
            let client = self.client(host);
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
        let (client, now) = (self.client(host), Instant::now());
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
        let name = &self.client(host).host.name;
        tracing::warn!(host = name, blob = %digest, ?range, "a host gave bad bytes");
    }
}
