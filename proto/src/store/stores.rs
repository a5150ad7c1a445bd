//! Which store to ask for a blob, and what to think of it after.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::TryStreamExt;
use oci_spec::image::Digest;
use tokio::time::Instant;

use super::dir::Dir;
use super::http::Http;
use super::s3::S3;
use super::{BlobStore, StoreLocation};
use crate::image::{ByteStream, Error};
use crate::registry::{Blame, Health, Ledger, blame};

/// Stores in the order to ask them. All images of a process share them. Cheap to clone.
#[derive(Clone)]
pub struct Stores {
    shared: Arc<Shared>,
}

struct Shared {
    stores: Vec<Box<dyn BlobStore>>,
    health: Mutex<Vec<Health>>,
    ledger: Mutex<Ledger>,
}

impl Stores {
    /// Prepares to ask these stores. No traffic yet, but blocking: the system's certificates are in files.
    ///
    /// # Errors
    /// An address makes no sense, or the certificates cannot be read.
    pub fn new(locations: &[StoreLocation]) -> Result<Self, Error> {
        let open = |location: &StoreLocation| {
            Ok(match location {
                StoreLocation::Dir(folder) => Box::new(Dir::new(folder.clone())) as Box<dyn BlobStore>,
                StoreLocation::Http(base) => Box::new(Http::new(base.clone())?),
                StoreLocation::S3(location) => Box::new(S3::new(location)?),
            })
        };
        let stores = locations.iter().map(open).collect::<Result<Vec<_>, Error>>()?;
        Ok(Self {
            shared: Arc::new(Shared {
                health: Mutex::new(vec![Health::default(); stores.len()]),
                ledger: Mutex::default(),
                stores,
            }),
        })
    }

    /// Streams exactly `range` of a blob, unchecked, from the first store that has it. `None`: none has it now, and
    /// somebody else is to be asked. Stores that failed, lately or in this very call, are left alone for a while.
    pub async fn range(&self, digest: &Digest, range: &Range<u64>) -> Option<ByteStream> {
        for number in self.willing(digest) {
            let store = self.shared.stores.get(number)?;
            if let Some(health) = self.health().get_mut(number) {
                health.ask(Instant::now());
            }
            match store.range(digest, range.clone()).await {
                Ok(stream) => {
                    self.succeeded(number);
                    self.ledger().note(number, digest, range.clone());
                    let (stores, digest) = (self.clone(), digest.clone());
                    let noting = stream.inspect_err(move |error| stores.failed(number, &digest, error));
                    return Some(Box::pin(noting));
                }
                Err(error) => self.failed(number, digest, &error),
            }
        }
        None
    }

    /// Tells that the bytes of a range were not what they should be. Returns whether a store had sent them.
    pub fn distrust(&self, digest: &Digest, range: &Range<u64>) -> bool {
        let mut ledger = self.ledger();
        let Some(number) = ledger.take_sender(digest, range) else {
            return false;
        };
        ledger.suspect(number, digest, Blame::Bytes, Instant::now());
        let name = self.shared.stores.get(number).map(|store| store.name());
        tracing::warn!(store = name, blob = %digest, ?range, "a store gave bad bytes");
        true
    }

    /// Those to ask for a blob, in the order that is configured.
    fn willing(&self, digest: &Digest) -> Vec<usize> {
        let states: Vec<_> = self.health().iter().copied().enumerate().collect();
        let ledger = self.ledger();
        let now = Instant::now();
        let is_willing =
            |(number, health): &&(usize, Health)| ledger.is_willing(*number, health, digest, now);
        states
            .iter()
            .filter(is_willing)
            .map(|(number, _)| *number)
            .collect()
    }

    fn succeeded(&self, number: usize) {
        if let Some(health) = self.health().get_mut(number) {
            health.succeed();
        }
    }

    fn failed(&self, number: usize, digest: &Digest, error: &Error) {
        let name = self.shared.stores.get(number).map(|store| store.name());
        tracing::debug!(store = name, %error, "a store failed");
        match blame(error) {
            Blame::Host(asked) => {
                if let Some(health) = self.health().get_mut(number) {
                    health.fail(Instant::now(), asked);
                }
            }
            blame => {
                self.succeeded(number);
                self.ledger().suspect(number, digest, blame, Instant::now());
            }
        }
    }

    fn health(&self) -> MutexGuard<'_, Vec<Health>> {
        // It is whole at any time, so a panic elsewhere does not spoil it.
        self.shared.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.shared.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Stores {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.shared.stores.iter().map(|store| store.name());
        formatter.debug_list().entries(names).finish()
    }
}
