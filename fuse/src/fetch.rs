//! One fetch per unit: flight, plan, cut, decode.
//!
//! A unit is what is fetched and expanded as one: mostly a chunk, else a batch of small ones or a piece of a gzip
//! layer. [`units`] knows which; where it takes the blob's chunk infos to know, [`meta`] brings them on the first
//! miss.
//!
//! [`Supply`] answers the reads of one image. What is in the cache and believed is read from there. For the rest an
//! [`attempt`] boards a [`flight`] per unit; whoever leads hands the units to [`plan`], and each range that comes out
//! is a task of the [`Engine`]: it waits for its turn in the [`queue`], streams the bytes, [`cut`]s them into units as they arrive,
//! and lands each as soon as its chunks are decoded, verified and stored. A reader that goes away leaves the task
//! running: the next one finds the chunks.
//!
//! Attempts fail, reads wait: a failed attempt is told to all who wait, they pause and board again, until their
//! deadline passes. Nothing of a failure is remembered after that.

mod ahead;
mod attempt;
pub(crate) mod cut;
pub(crate) mod engine;
mod fill;
pub(crate) mod flight;
mod job;
mod meta;
pub(crate) mod plan;
pub(crate) mod queue;
mod run;
#[cfg(test)]
mod scene;
mod stream;
mod supply;
mod task;
mod units;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use engine::Engine;
pub use fill::Filler;
pub(crate) use run::Run;
pub(crate) use supply::{Supply, SupplySpec};

/// How long to pause after so many failures in a row, counted from 0: `min`, doubled each time, at most `max`.
fn doubled(min: Duration, max: Duration, failures: u32) -> Duration {
    max.min(min.saturating_mul(1 << failures.min(16)))
}

/// Why bytes could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The source refused or broke off.
    #[error("source: {0}")]
    Source(#[source] proto::image::Error),
    /// The source ended before the range did.
    #[error("source ended early, {missing} chunks were still to come")]
    Short {
        /// Chunks that did not come.
        missing: usize,
    },
    /// Nothing came for too long.
    #[error("source is silent since {0:?}")]
    Stalled(Duration),
    /// What came is not the chunk.
    #[error(transparent)]
    Corrupt(#[from] rafs::chunk::DecodeError),
    /// The chunk infos of a blob, by which chunks that share compressed bytes are found, cannot be used.
    #[error(transparent)]
    Meta(#[from] rafs::blob::MetaError),
    /// The file with the chunk infos has another digest than its name or its table of contents says.
    #[error("chunk infos of a blob have another digest than announced")]
    MetaDigest,
    /// The read has waited as long as it may.
    #[error("no bytes within {deadline:?}")]
    Deadline {
        /// How long it waited.
        deadline: Duration,
        /// The last attempt's failure, if one had ended.
        source: Option<Arc<Error>>,
    },
    /// The server is ending.
    #[error("the server is ending")]
    Closed,
}

/// What waiting does about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    /// Try again for as long as the deadline allows.
    Retry,
    /// Try again a few times: the next copy may be whole.
    RetryFew,
    /// It will not get better.
    GiveUp,
}

impl Error {
    /// How long the source asks to wait.
    fn retry_after(&self) -> Duration {
        match self {
            Error::Source(error) => error.retry_after().unwrap_or_default(),
            _ => Duration::ZERO,
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Error::Corrupt(_) | Error::MetaDigest | Error::Meta(rafs::blob::MetaError::Corrupt { .. }) => {
                Remedy::RetryFew
            }
            Error::Short { .. } | Error::Stalled(_) => Remedy::Retry,
            // Credentials are often renewed under way: a pull secret that is rotated, a node that logs in again.
            Error::Source(proto::image::Error::Unauthorized { .. }) => Remedy::Retry,
            Error::Source(error) if error.is_retryable() => Remedy::Retry,
            Error::Source(_) | Error::Meta(_) | Error::Deadline { .. } | Error::Closed => Remedy::GiveUp,
        }
    }
}
