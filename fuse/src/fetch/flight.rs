//! Single flight: of all who want the same thing at once, one gets it and the others wait for that.
//!
//! Who boards first leads. A leader lands with a value, which all who follow receive; one that is dropped without
//! landing wakes its followers empty-handed, so they board again and one of them leads.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, PoisonError};

use super::queue::{Class, Ticket};
use crate::sync::{Mutex, MutexGuard, watch};

/// What is in the air, by key. `V` is cloned to each follower.
pub(crate) struct Flights<K, V> {
    seats: Arc<Mutex<HashMap<K, Seat<V>>>>,
}

struct Seat<V> {
    owner: u32,
    /// The most urgent of those aboard.
    class: Class,
    /// The request that brings it, once there is one.
    ticket: Option<Ticket>,
    landing: watch::Receiver<Option<V>>,
}

/// A place in a flight.
pub(crate) enum Boarding<K: Eq + Hash, V> {
    /// First: get it, then land.
    Lead(Lead<K, V>),
    /// Somebody is on the way.
    Follow(Follow<V>),
}

/// The duty to land. Dropping it wakes the followers without a value.
pub(crate) struct Lead<K: Eq + Hash, V> {
    seats: Arc<Mutex<HashMap<K, Seat<V>>>>,
    key: K,
    landing: watch::Sender<Option<V>>,
    /// The key is no longer this flight's.
    is_over: bool,
}

/// The right to the value.
pub(crate) struct Follow<V> {
    /// Who leads, in the caller's numbers.
    pub(crate) owner: u32,
    /// The request to be promoted, because this follower is the most urgent so far.
    pub(crate) promote: Option<Ticket>,
    landing: watch::Receiver<Option<V>>,
}

impl<K: Eq + Hash + Clone, V: Clone> Flights<K, V> {
    /// Makes an empty sky.
    pub(crate) fn new() -> Self {
        Flights {
            seats: Arc::default(),
        }
    }

    /// Leads the flight for `key`, or follows the one that is in the air. `owner` is shown to followers.
    pub(crate) fn board(&self, key: &K, owner: u32, class: Class) -> Boarding<K, V> {
        let mut seats = lock(&self.seats);
        if let Some(seat) = seats.get_mut(key) {
            let is_most_urgent = class < seat.class;
            seat.class = class.min(seat.class);
            return Boarding::Follow(Follow {
                owner: seat.owner,
                promote: seat.ticket.filter(|_| is_most_urgent),
                landing: seat.landing.clone(),
            });
        }
        Boarding::Lead(self.found(&mut seats, key, owner, class))
    }

    fn found(&self, seats: &mut HashMap<K, Seat<V>>, key: &K, owner: u32, class: Class) -> Lead<K, V> {
        let (sender, landing) = watch::channel(None);
        let seat = Seat {
            owner,
            class,
            ticket: None,
            landing,
        };
        seats.insert(key.clone(), seat);
        Lead {
            seats: self.seats.clone(),
            key: key.clone(),
            landing: sender,
            is_over: false,
        }
    }

    /// Leads the flights for those keys for which none is in the air. All at once: two who want the same range do not
    /// get every other key of it.
    pub(crate) fn lead_all<T>(&self, keys: Vec<(T, K)>, owner: u32, class: Class) -> Vec<(T, Lead<K, V>)> {
        let mut seats = lock(&self.seats);
        let mut leads = Vec::with_capacity(keys.len());
        for (name, key) in keys {
            if !seats.contains_key(&key) {
                leads.push((name, self.found(&mut seats, &key, owner, class)));
            }
        }
        leads
    }

    /// Whether a flight for `key` is in the air.
    pub(crate) fn is_flying(&self, key: &K) -> bool {
        lock(&self.seats).contains_key(key)
    }
}

impl<K: Eq + Hash, V> Lead<K, V> {
    /// Follows this very flight.
    pub(crate) fn follow(&self, owner: u32) -> Follow<V> {
        Follow {
            owner,
            promote: None,
            landing: self.landing.subscribe(),
        }
    }

    /// Says which request brings it, so that who follows from now on can promote it. Returns the most urgent class of
    /// those who follow already.
    pub(crate) fn assign(&self, ticket: Ticket) -> Option<Class> {
        let mut seats = lock(&self.seats);
        let seat = seats.get_mut(&self.key)?;
        seat.ticket = Some(ticket);
        Some(seat.class)
    }

    /// Ends the flight with a value for all who follow.
    pub(crate) fn land(mut self, value: V) {
        // First of all: who learns of a failure and tries again at once must not board the flight that failed.
        self.leave();
        self.landing.send_replace(Some(value));
    }

    fn leave(&mut self) {
        lock(&self.seats).remove(&self.key);
        self.is_over = true;
    }
}

impl<K: Eq + Hash, V> Drop for Lead<K, V> {
    fn drop(&mut self) {
        // Before the sender goes: a follower that wakes finds the key free. Once it is, it may be another flight's.
        if !self.is_over {
            self.leave();
        }
    }
}

impl<V: Clone> Follow<V> {
    /// Waits for the landing. `None`: the leader gave up, board again.
    pub(crate) async fn wait(mut self) -> Option<V> {
        match self.landing.wait_for(Option::is_some).await {
            Ok(value) => value.clone(),
            Err(_) => None,
        }
    }
}

fn lock<K, V>(seats: &Mutex<HashMap<K, Seat<V>>>) -> MutexGuard<'_, HashMap<K, Seat<V>>> {
    seats.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, feature = "model"))]
mod model;
#[cfg(all(test, not(feature = "model")))]
mod tests;
