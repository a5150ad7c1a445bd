//! Flights under every order of events that a model checker comes across: `make model-check`.
//!
//! The cache is a set here, a source always has what is asked for unless a case says otherwise, and cancelling is to drop
//! what somebody holds.

use std::collections::HashSet;

use shuttle::future::{block_on, spawn, yield_now};
use shuttle::rand::Rng;
use shuttle::sync::Mutex as ModelMutex;

use super::*;

/// Schedules of each case.
const SCHEDULES: usize = 20_000;

/// Times at which the scheduler departs from letting the most important go on.
const DEPTH: usize = 3;

/// Readers of each case.
const READERS: u32 = 4;

fn check(case: fn()) {
    shuttle::check_random(case, SCHEDULES);
    shuttle::check_pct(case, SCHEDULES, DEPTH);
}

/// The flights, and what a fetch leaves behind.
#[derive(Default)]
struct Sky {
    cache: ModelMutex<HashSet<u32>>,
    /// Keys that are being fetched.
    fetching: ModelMutex<HashSet<u32>>,
    fetches: ModelMutex<usize>,
}

impl Sky {
    /// Whether a key is in the cache.
    fn has(&self, key: u32) -> bool {
        self.cache.lock().unwrap().contains(&key)
    }

    /// Fetches a key, which nobody else may do meanwhile.
    async fn fetch(&self, key: u32) {
        assert!(self.fetching.lock().unwrap().insert(key), "fetched twice at once");
        let _under_way = UnderWay { sky: self, key };
        *self.fetches.lock().unwrap() += 1;
        yield_now().await;
    }
}

/// A fetch that ends when it is dropped.
struct UnderWay<'a> {
    sky: &'a Sky,
    key: u32,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.sky.fetching.lock().unwrap().remove(&self.key);
    }
}

/// Reads a key as the supply does: look, board, look again, and lead or follow. A leader gives up as often as it is
/// told to.
async fn read(flights: Arc<Flights<u32, u32>>, sky: Arc<Sky>, key: u32, mut gives_up: usize) {
    while !sky.has(key) {
        match flights.board(&key, key, Class::Fault) {
            Boarding::Lead(lead) => {
                if sky.has(key) {
                    return;
                }
                sky.fetch(key).await;
                if gives_up > 0 {
                    gives_up -= 1;
                    continue;
                }
                sky.cache.lock().unwrap().insert(key);
                lead.land(key);
                return;
            }
            Boarding::Follow(follow) => {
                if let Some(value) = follow.wait().await {
                    assert_eq!(value, key, "the value of another flight");
                    assert!(sky.has(key), "landed before it was published");
                    return;
                }
            }
        }
    }
}

#[test]
fn everybody_is_served_and_every_key_is_fetched_once() {
    check(|| {
        let (flights, sky) = (Arc::new(Flights::new()), Arc::new(Sky::default()));
        let readers: Vec<_> = (0..READERS)
            .map(|reader| spawn(read(flights.clone(), sky.clone(), reader % 2, 0)))
            .collect();
        block_on(async {
            for reader in readers {
                reader.await.unwrap();
            }
        });
        assert_eq!(*sky.fetches.lock().unwrap(), 2);
        assert!((0..2).all(|key| !flights.is_flying(&key)));
    });
}

#[test]
fn followers_of_a_leader_that_gives_up_lead_themselves() {
    check(|| {
        let (flights, sky) = (Arc::new(Flights::new()), Arc::new(Sky::default()));
        let readers: Vec<_> = (0..READERS)
            .map(|reader| {
                let gives_up = usize::from(reader < 2);
                spawn(read(flights.clone(), sky.clone(), 0, gives_up))
            })
            .collect();
        block_on(async {
            for reader in readers {
                reader.await.unwrap();
            }
        });
        assert!(!flights.is_flying(&0));
    });
}

#[test]
fn readers_that_go_away_leave_nobody_behind() {
    check(|| {
        let (flights, sky) = (Arc::new(Flights::new()), Arc::new(Sky::default()));
        let goes_away = spawn(read(flights.clone(), sky.clone(), 0, 0));
        let stays = spawn(read(flights.clone(), sky.clone(), 0, 0));
        if shuttle::rand::thread_rng().gen_bool(0.5) {
            shuttle::thread::yield_now();
        }
        // A task that is aborted is dropped where it waits, with its lead or its place.
        goes_away.abort();
        block_on(stays).unwrap();
        assert!(sky.has(0));
    });
}

/// Who is told of a failure and boards again, boards another flight: failures are not remembered.
#[test]
fn nobody_boards_a_flight_that_has_landed() {
    check(|| {
        let flights: Arc<Flights<u32, u32>> = Arc::new(Flights::new());
        let number = Arc::new(ModelMutex::new(0));
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                let (flights, number) = (flights.clone(), number.clone());
                spawn(async move {
                    let mut last = None;
                    for _ in 0..3 {
                        let landed = match flights.board(&0, 0, Class::Fault) {
                            Boarding::Lead(lead) => {
                                let own = {
                                    let mut number = number.lock().unwrap();
                                    *number += 1;
                                    *number
                                };
                                yield_now().await;
                                lead.land(own);
                                own
                            }
                            Boarding::Follow(follow) => match follow.wait().await {
                                Some(number) => number,
                                None => continue,
                            },
                        };
                        assert!(last < Some(landed), "told of {landed} twice");
                        last = Some(landed);
                    }
                })
            })
            .collect();
        block_on(async {
            for reader in readers {
                reader.await.unwrap();
            }
        });
    });
}

#[test]
fn of_many_keys_each_has_one_leader() {
    check(|| {
        let flights: Arc<Flights<u32, u32>> = Arc::new(Flights::new());
        let sky = Arc::new(Sky::default());
        let ranges: Vec<_> = [0..3, 1..4, 0..4]
            .map(|keys: std::ops::Range<u32>| {
                let (flights, sky) = (flights.clone(), sky.clone());
                spawn(async move {
                    let keys = keys.map(|key| (key, key)).collect();
                    for (key, lead) in flights.lead_all(keys, 0, Class::Fill) {
                        sky.fetch(key).await;
                        lead.land(key);
                    }
                })
            })
            .into();
        block_on(async {
            for range in ranges {
                range.await.unwrap();
            }
        });
        assert!((0..4).all(|key| !flights.is_flying(&key)));
    });
}
