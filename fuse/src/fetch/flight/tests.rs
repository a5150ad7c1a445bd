use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::fetch::queue::schedule::{Limits, Schedule};

fn leads<V: Clone>(boarding: Boarding<u32, V>) -> Lead<u32, V> {
    match boarding {
        Boarding::Lead(lead) => lead,
        Boarding::Follow(_) => panic!("somebody else leads"),
    }
}

fn follows<V: Clone>(boarding: Boarding<u32, V>) -> Follow<V> {
    match boarding {
        Boarding::Follow(follow) => follow,
        Boarding::Lead(_) => panic!("nobody leads"),
    }
}

fn only<V>(mut leads: Vec<((), Lead<u32, V>)>) -> Lead<u32, V> {
    assert_eq!(leads.len(), 1);
    leads.remove(0).1
}

#[tokio::test]
async fn followers_get_what_the_leader_lands_with() {
    let flights = Flights::new();
    let lead = leads(flights.board(&1, 7, Class::Fault));
    let early = follows(flights.board(&1, 8, Class::Fault));
    let own = lead.follow(7);
    assert_eq!(early.owner, 7);
    assert!(flights.lead_all(vec![((), 1)], 9, Class::Fault).is_empty());
    lead.land("value");
    assert_eq!(early.wait().await, Some("value"));
    assert_eq!(own.wait().await, Some("value"));
    assert!(!flights.is_flying(&1));
}

#[test]
fn of_many_keys_those_in_the_air_are_left_out() {
    let flights: Flights<u32, ()> = Flights::new();
    let _lead = leads(flights.board(&3, 0, Class::Fault));
    let keys = |keys: std::ops::Range<u32>| keys.map(|key| (key, key)).collect();
    let names = |led: &[(u32, Lead<u32, ()>)]| led.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    let first = flights.lead_all(keys(1..5), 0, Class::Fault);
    let second = flights.lead_all(keys(0..6), 0, Class::Fault);
    assert_eq!((names(&first), names(&second)), (vec![1, 2, 4], vec![0, 5]));
}

#[tokio::test]
async fn a_leader_that_gives_up_wakes_its_followers() {
    let flights: Flights<u32, ()> = Flights::new();
    let lead = leads(flights.board(&1, 0, Class::Fault));
    let follow = follows(flights.board(&1, 0, Class::Fault));
    let waiting = tokio::spawn(follow.wait());
    drop(lead);
    assert_eq!(waiting.await.unwrap(), None);
    leads(flights.board(&1, 0, Class::Fault));
}

/// Many threads, few keys, leaders that fail now and then: at any time one leader per key, everybody ends with a
/// value, and the value is that of its own key.
#[test]
fn threads_hammering() {
    const THREADS: usize = 8;
    const ROUNDS: usize = 400;
    const KEYS: usize = 3;
    let flights: Arc<Flights<u32, u32>> = Arc::new(Flights::new());
    let leading: Arc<[AtomicUsize; KEYS]> = Arc::default();
    let landed = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (flights, leading, landed) = (flights.clone(), leading.clone(), landed.clone());
            std::thread::spawn(move || {
                for round in 0..ROUNDS {
                    let key = (round % KEYS) as u32;
                    let mut tries = thread + round;
                    loop {
                        tries += 1;
                        match flights.board(&key, thread as u32, Class::Fault) {
                            Boarding::Lead(lead) => {
                                assert_eq!(leading[key as usize].fetch_add(1, Ordering::SeqCst), 0);
                                std::thread::yield_now();
                                leading[key as usize].fetch_sub(1, Ordering::SeqCst);
                                if !tries.is_multiple_of(3) {
                                    lead.land(key);
                                    landed.fetch_add(1, Ordering::SeqCst);
                                    break;
                                }
                            }
                            Boarding::Follow(follow) => {
                                if let Some(value) = futures::executor::block_on(follow.wait()) {
                                    assert_eq!(value, key);
                                    break;
                                }
                            }
                        }
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(landed.load(Ordering::SeqCst) > 0);
    assert!((0..KEYS as u32).all(|key| !flights.is_flying(&key)));
}

#[test]
fn the_most_urgent_follower_promotes_the_request_whenever_it_comes() {
    let tickets = {
        let mut schedule = Schedule::new(Limits {
            own_for_faults: 0,
            own: 0,
            shared: 0,
            shared_for_faults: 0,
            share_max: 0,
            bytes: 0,
            bytes_for_faults: 0,
        });
        let member = schedule.join();
        [0, 1].map(|_| schedule.push(member, Class::Fill, 1))
    };
    let flights: Flights<u32, ()> = Flights::new();
    // Before there is a request, the leader learns of it.
    let early = only(flights.lead_all(vec![((), 1)], 0, Class::Fill));
    assert_eq!(follows(flights.board(&1, 0, Class::Fault)).promote, None);
    assert_eq!(early.assign(tickets[0]), Some(Class::Fault));
    // Afterwards, the follower does, if it is the first that is so urgent.
    let late = only(flights.lead_all(vec![((), 2)], 0, Class::Fill));
    assert_eq!(late.assign(tickets[1]), Some(Class::Fill));
    assert_eq!(follows(flights.board(&2, 0, Class::Fill)).promote, None);
    assert_eq!(
        follows(flights.board(&2, 0, Class::Fault)).promote,
        Some(tickets[1])
    );
    assert_eq!(follows(flights.board(&2, 0, Class::Hint)).promote, None);
}
