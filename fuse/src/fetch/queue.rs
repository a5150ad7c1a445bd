//! Waiting for the turn of a request: the [`schedule`] with a lock around it and somebody to wake.
//!
//! Whoever changes the schedule starts what may start by then, and so no task has to run for it. Everything is given
//! back by dropping: a [`Turn`] that waits, a [`Permit`], a [`Lane`] with all that is in it.

pub(crate) mod schedule;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

pub(crate) use schedule::{Class, Limits, Ticket};
use schedule::{Member, Schedule};

use crate::sync::{Mutex, MutexGuard, oneshot, watch};

/// How long something urgent is waited for that does not move: a source that is silent must not stop what can go on.
const SILENCE_MAX: Duration = Duration::from_millis(500);

/// The requests of a node that wait and run.
pub(crate) struct Queue {
    state: Mutex<State>,
    /// Told when something urgent has ended.
    relief: watch::Sender<()>,
}

struct State {
    schedule: Schedule,
    known: HashMap<Ticket, Known>,
}

impl State {
    /// Who waits for one of these learns that it never comes.
    fn forget(&mut self, tickets: &[Ticket]) {
        for ticket in tickets {
            self.known.remove(ticket);
        }
    }
}

struct Known {
    /// Taken when it starts.
    waker: Option<oneshot::Sender<()>>,
    /// When it last got on: came, started or received bytes.
    moved: Instant,
}

/// What one image has in the queue. Dropping it ends what waits.
pub(crate) struct Lane {
    queue: Arc<Queue>,
    member: Member,
}

/// A place in the queue. Dropping it gives the place up.
pub(crate) struct Turn {
    permit: Permit,
    started: oneshot::Receiver<()>,
}

/// The right to run one request, until dropped.
pub(crate) struct Permit {
    queue: Arc<Queue>,
    ticket: Ticket,
}

impl Queue {
    /// Makes an empty queue.
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Queue {
            state: Mutex::new(State {
                schedule: Schedule::new(limits),
                known: HashMap::new(),
            }),
            relief: watch::Sender::new(()),
        })
    }

    /// Makes room for one more image.
    pub(crate) fn lane(self: &Arc<Self>) -> Lane {
        Lane {
            member: self.lock().schedule.join(),
            queue: self.clone(),
        }
    }

    /// Makes a request more urgent, if it is still there.
    pub(crate) fn promote(&self, ticket: Ticket, class: Class) {
        self.change(|state| state.schedule.promote(ticket, class));
    }

    /// Changes the schedule, then starts what may start.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        while let Some(ticket) = state.schedule.next() {
            if let Some(known) = state.known.get_mut(&ticket) {
                known.moved = Instant::now();
                // Who no longer waits is about to give the permit back.
                known.waker.take().map(|waker| waker.send(()));
            }
        }
        drop(state);
        self.relief.send_replace(());
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    /// Queues a request for so many stored bytes.
    pub(crate) fn enter(&self, class: Class, bytes: u64) -> Turn {
        let (waker, started) = oneshot::channel();
        let ticket = self.queue.change(|state| {
            let ticket = state.schedule.push(self.member, class, bytes);
            let known = Known {
                waker: Some(waker),
                moved: Instant::now(),
            };
            state.known.insert(ticket, known);
            ticket
        });
        let permit = Permit {
            queue: self.queue.clone(),
            ticket,
        };
        Turn { permit, started }
    }

    /// Ends what waits below faults.
    pub(crate) fn cancel(&self) {
        self.queue.change(|state| {
            let cancelled = state.schedule.cancel(self.member);
            state.forget(&cancelled);
        });
    }

    /// Sets the image's share against others: twice the weight, twice the bytes.
    pub(crate) fn weigh(&self, weight: u32) {
        self.queue
            .change(|state| state.schedule.weigh(self.member, weight));
    }

    /// Sets how many requests below faults the image may run at once, within the limits of all.
    pub(crate) fn widen(&self, width: usize) {
        self.queue
            .change(|state| state.schedule.widen(self.member, width));
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.queue.change(|state| {
            let left = state.schedule.leave(self.member);
            state.forget(&left);
        });
    }
}

impl Turn {
    /// Its name, under which it can be promoted.
    pub(crate) fn ticket(&self) -> Ticket {
        self.permit.ticket
    }

    /// Waits for the turn. `None`: it was cancelled.
    pub(crate) async fn come(self) -> Option<Permit> {
        self.started.await.ok().map(|()| self.permit)
    }
}

impl Permit {
    /// Notes that bytes have come. Returns for what they are by now.
    pub(crate) fn note_progress(&self) -> Class {
        let mut state = self.queue.lock();
        if let Some(known) = state.known.get_mut(&self.ticket) {
            known.moved = Instant::now();
        }
        state.schedule.class(self.ticket)
    }

    /// Waits while something more urgent is under way and moves, but not longer than `patience`.
    pub(crate) async fn give_way(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut relief = self.queue.relief.subscribe();
        loop {
            relief.mark_unchanged();
            let Some(silent_at) = self.outranked_until() else {
                return;
            };
            let wait = tokio::time::timeout_at(until.min(silent_at), relief.changed());
            if wait.await.is_err() && Instant::now() >= until {
                return;
            }
        }
    }

    /// When the last of what is more urgent will have been silent for too long, if it goes on as it does.
    fn outranked_until(&self) -> Option<Instant> {
        let state = self.queue.lock();
        let now = Instant::now();
        (state.schedule.superiors(self.ticket))
            .filter_map(|ticket| Some(state.known.get(&ticket)?.moved + SILENCE_MAX))
            .filter(|silent_at| *silent_at > now)
            .max()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.queue.change(|state| {
            state.known.remove(&self.ticket);
            state.schedule.done(self.ticket);
        });
    }
}

#[cfg(all(test, feature = "model"))]
mod model;
#[cfg(all(test, not(feature = "model")))]
mod tests;
