//! Locks and channels of the code whose concurrency is model-checked: flights, queue, account of the cache.
//!
//! Ordinarily these are the standard library's and tokio's. With the feature `model` they are those of shuttle, which runs
//! a test under many schedules and decides at every use of one of them who goes on. Tokio's channels stay what they are: a
//! use of one is one step, before which somebody else may go first.

#[cfg(not(feature = "model"))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic};

#[cfg(not(feature = "model"))]
pub(crate) use tokio::sync::{oneshot, watch};

#[cfg(feature = "model")]
pub(crate) use model::{oneshot, watch};

#[cfg(feature = "model")]
pub(crate) use shuttle::sync::{Mutex, MutexGuard, atomic};

#[cfg(feature = "model")]
mod model;
