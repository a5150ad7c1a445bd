//! The queue under every order of events that a model checker comes across: `make model-check`.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use shuttle::future::{block_on, spawn, yield_now};

use super::*;

/// Schedules of each case.
const SCHEDULES: usize = 20_000;

/// Times at which the scheduler departs from letting the most important go on.
const DEPTH: usize = 3;

/// Requests of each case.
const REQUESTS: u64 = 5;

const LIMITS: Limits = Limits {
    own_for_faults: 0,
    own: 0,
    shared: 2,
    shared_for_faults: 1,
    share_max: 2,
    bytes: 20,
    bytes_for_faults: 10,
};

fn check(case: fn()) {
    shuttle::check_random(case, SCHEDULES);
    shuttle::check_pct(case, SCHEDULES, DEPTH);
}

/// What runs at once, outside of the model: counting is no step of it.
#[derive(Default)]
struct Running {
    count: AtomicUsize,
    bytes: AtomicU64,
}

impl Running {
    async fn run(&self, permit: Permit, bytes: u64) {
        let count = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        let all = self.bytes.fetch_add(bytes, Ordering::SeqCst) + bytes;
        assert!(count <= LIMITS.shared, "{count} run at once");
        assert!(all <= LIMITS.bytes, "{all} bytes are under way");
        yield_now().await;
        self.count.fetch_sub(1, Ordering::SeqCst);
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
        drop(permit);
    }
}

fn class(number: u64) -> Class {
    match number % 2 {
        0 => Class::Fault,
        _ => Class::Fill,
    }
}

/// Nobody waits for ever, and never more runs than may: shuttle ends a case in which nobody can go on.
#[test]
fn every_turn_comes_within_the_limits() {
    check(|| {
        let queue = Queue::new(LIMITS);
        let running = Arc::new(Running::default());
        let requests: Vec<_> = (0..REQUESTS)
            .map(|number| {
                let (queue, running) = (queue.clone(), running.clone());
                spawn(async move {
                    let lane = queue.lane();
                    let bytes = 4 + number;
                    let permit = lane.enter(class(number), bytes).come().await;
                    running.run(permit.expect("nobody cancels it"), bytes).await;
                })
            })
            .collect();
        block_on(async {
            for request in requests {
                request.await.unwrap();
            }
        });
        assert!(queue.lock().known.is_empty());
    });
}

#[test]
fn turns_that_are_given_up_promoted_or_cancelled_hold_nobody_up() {
    check(|| {
        let queue = Queue::new(LIMITS);
        let running = Arc::new(Running::default());
        let lane = Arc::new(queue.lane());
        let waiting: Vec<_> = (0..REQUESTS).map(|number| lane.enter(class(number), 9)).collect();
        let tickets: Vec<_> = waiting.iter().map(Turn::ticket).collect();
        let requests = (0..).zip(waiting).map(|(number, turn)| {
            let running = running.clone();
            spawn(async move {
                if number == 2 {
                    return drop(turn);
                }
                if let Some(permit) = turn.come().await {
                    running.run(permit, 9).await;
                }
            })
        });
        let requests: Vec<_> = requests.collect();
        let promoting = spawn({
            let queue = queue.clone();
            async move { queue.promote(tickets[3], Class::Fault) }
        });
        let cancelling = spawn({
            let lane = lane.clone();
            async move { lane.cancel() }
        });
        block_on(async {
            for task in requests.into_iter().chain([promoting, cancelling]) {
                task.await.unwrap();
            }
        });
        assert!(queue.lock().known.is_empty());
        drop(lane);
        // All permits are back.
        let lane = queue.lane();
        let first = lane.enter(Class::Fault, 1);
        let second = lane.enter(Class::Fault, 1);
        block_on(async {
            assert!(first.come().await.is_some() && second.come().await.is_some());
        });
    });
}

#[test]
fn an_image_that_goes_frees_what_it_held() {
    check(|| {
        let queue = Queue::new(LIMITS);
        let leaving = spawn({
            let queue = queue.clone();
            async move {
                let lane = queue.lane();
                let turns = [lane.enter(Class::Fault, 9), lane.enter(Class::Fault, 9)];
                drop(lane);
                // Those that run go on, those that wait never come.
                for turn in turns {
                    drop(turn.come().await);
                }
            }
        });
        let staying = spawn({
            let queue = queue.clone();
            async move {
                let lane = queue.lane();
                assert!(lane.enter(Class::Fault, 9).come().await.is_some());
            }
        });
        block_on(async {
            leaving.await.unwrap();
            staying.await.unwrap();
        });
        assert!(queue.lock().known.is_empty());
    });
}
