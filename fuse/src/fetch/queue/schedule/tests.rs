//! Schedules under every order of events.

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    own_for_faults: 2,
    own: 1,
    shared: 8,
    shared_for_faults: 3,
    share_max: 4,
    bytes: 100,
    bytes_for_faults: 30,
};

/// One permit for all, so that only the order decides.
const ONE_AT_A_TIME: Limits = Limits {
    own_for_faults: 0,
    own: 0,
    shared: 1,
    shared_for_faults: 0,
    ..LIMITS
};

fn started(schedule: &mut Schedule) -> Vec<Ticket> {
    std::iter::from_fn(|| schedule.next()).collect()
}

fn any_class() -> impl Strategy<Value = Class> {
    proptest::sample::select(Class::ALL.to_vec())
}

#[derive(Clone, Debug)]
enum Event {
    Push(usize, Class, u64),
    Promote(prop::sample::Index, Class),
    Done(prop::sample::Index),
    Cancel(usize),
    Widen(usize, usize),
}

fn any_event() -> impl Strategy<Value = Event> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        6 => (0_usize..5, any_class(), 0_u64..50).prop_map(|(image, class, bytes)| Event::Push(image, class, bytes)),
        1 => (index(), any_class()).prop_map(|(index, class)| Event::Promote(index, class)),
        4 => index().prop_map(Event::Done),
        1 => (0_usize..5).prop_map(Event::Cancel),
        1 => (0_usize..5, 0_usize..9).prop_map(|(image, width)| Event::Widen(image, width)),
    ]
}

/// What must hold at any time, after everything that may start has started.
fn check(schedule: &Schedule) -> Result<(), TestCaseError> {
    let running = || {
        schedule
            .requests
            .values()
            .filter(|request| request.seat.is_some())
    };
    let in_seat = |seat: Seat| running().filter(move |request| request.seat == Some(seat));
    for seat in [Seat::OwnForFaults, Seat::Own, Seat::SharedForFaults, Seat::Shared] {
        prop_assert_eq!(schedule.held.get(seat), in_seat(seat).count());
    }
    let bytes = |seat| in_seat(seat).map(|request| request.bytes).sum::<u64>();
    let (faults, rest) = (bytes(Seat::SharedForFaults), bytes(Seat::Shared));
    prop_assert_eq!(schedule.bytes, [faults, rest]);
    prop_assert!(faults + rest <= LIMITS.bytes);
    prop_assert!(rest <= LIMITS.bytes - LIMITS.bytes_for_faults);
    let (faults, rest) = (
        in_seat(Seat::SharedForFaults).count(),
        in_seat(Seat::Shared).count(),
    );
    prop_assert!(faults + rest <= LIMITS.shared);
    prop_assert!(rest <= LIMITS.shared - LIMITS.shared_for_faults);
    for (member, share) in &schedule.shares {
        let its = |seat| in_seat(seat).filter(|request| request.member == *member).count();
        prop_assert!(its(Seat::OwnForFaults) <= LIMITS.own_for_faults && its(Seat::Own) <= LIMITS.own);
        prop_assert!(its(Seat::SharedForFaults).max(its(Seat::Shared)) <= LIMITS.share_max);
        for class in Class::ALL {
            let waiting = schedule.requests.iter().filter(|(_, request)| {
                request.member == *member && request.class == class && request.seat.is_none()
            });
            let waiting: BTreeSet<_> = waiting.map(|(ticket, _)| *ticket).collect();
            prop_assert_eq!(&waiting, &share.lanes[class as usize].waiting);
            if class == Class::Fault && !waiting.is_empty() {
                // It waits for faults, of its own image or of others, and for nothing else.
                let is_own_full = its(Seat::SharedForFaults) == LIMITS.share_max;
                let are_bytes_full = schedule.bytes[0] > 0;
                prop_assert_eq!(its(Seat::OwnForFaults), LIMITS.own_for_faults);
                prop_assert!(is_own_full || are_bytes_full || faults >= LIMITS.shared_for_faults);
            }
            if class != Class::Fault && !waiting.is_empty() {
                // However busy the others are, an image always has something running.
                prop_assert!(its(Seat::Own) + its(Seat::Shared) >= LIMITS.own.min(share.width));
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_limit_is_ever_passed_and_faults_wait_only_for_faults(events in prop::collection::vec(any_event(), 1..200)) {
        let mut schedule = Schedule::new(LIMITS);
        let members: Vec<_> = (0..5).map(|_| schedule.join()).collect();
        let mut known = Vec::new();
        for event in events {
            match event {
                Event::Push(image, class, bytes) => known.push(schedule.push(members[image], class, bytes)),
                Event::Promote(index, class) if !known.is_empty() => {
                    schedule.promote(*index.get(&known), class);
                }
                Event::Done(index) if !known.is_empty() => schedule.done(known.swap_remove(index.index(known.len()))),
                Event::Cancel(image) => {
                    let gone = schedule.cancel(members[image]);
                    known.retain(|ticket| !gone.contains(ticket));
                }
                Event::Widen(image, width) => schedule.widen(members[image], width),
                _ => {}
            }
            started(&mut schedule);
            check(&schedule)?;
        }
        // Nothing is left waiting once those that run have ended, and nothing is held in the end.
        loop {
            let running: Vec<_> = (schedule.requests.iter())
                .filter(|(_, request)| request.seat.is_some())
                .map(|(ticket, _)| *ticket)
                .collect();
            let Some(first) = running.first() else { break };
            schedule.done(*first);
            started(&mut schedule);
            check(&schedule)?;
        }
        prop_assert!(schedule.requests.is_empty());
        for member in members {
            schedule.leave(member);
        }
        prop_assert!(schedule.shares.is_empty());
    }

    #[test]
    fn images_of_a_class_share_by_weight(
        weights in prop::collection::vec(1_u32..5, 2..5),
        sizes in prop::collection::vec(1_u64..30, 1..20),
        class in any_class(),
    ) {
        let mut schedule = Schedule::new(Limits { share_max: 1, ..ONE_AT_A_TIME });
        let members: Vec<_> = weights.iter().map(|weight| {
            let member = schedule.join();
            schedule.weigh(member, *weight);
            member
        }).collect();
        let mut sizes = sizes.into_iter().cycle();
        for _ in 0..50 {
            for member in &members {
                schedule.push(*member, class, sizes.next().unwrap());
            }
        }
        let mut given: BTreeMap<Member, u64> = BTreeMap::new();
        // While all have something waiting, nobody is ahead of another by more than a request of each.
        while members.iter().all(|member| !schedule.shares[member].lanes[class as usize].waiting.is_empty()) {
            let ticket = schedule.next().unwrap();
            let request = schedule.requests[&ticket];
            *given.entry(request.member).or_default() += request.bytes;
            schedule.done(ticket);
            for (a, weight_a) in members.iter().zip(&weights) {
                for (b, weight_b) in members.iter().zip(&weights) {
                    let of = |member| given.get(member).copied().unwrap_or(0) as f64;
                    let lead = of(a) / f64::from(*weight_a) - of(b) / f64::from(*weight_b);
                    let bound = 30.0 / f64::from(*weight_a) + 30.0 / f64::from(*weight_b) + 1.0;
                    prop_assert!(lead <= bound, "{lead} ahead, {bound} allowed");
                }
            }
        }
    }
}

#[test]
fn the_most_urgent_goes_first_and_what_is_promoted_keeps_its_age() {
    let mut schedule = Schedule::new(ONE_AT_A_TIME);
    let member = schedule.join();
    let [fill, weights, hint, readahead, fault] = [
        Class::Fill,
        Class::Weights,
        Class::Hint,
        Class::Readahead,
        Class::Fault,
    ]
    .map(|class| schedule.push(member, class, 1));
    assert!(schedule.promote(fill, Class::Fault));
    assert!(!schedule.promote(fill, Class::Hint));
    for expected in [fill, fault, readahead, hint, weights] {
        assert_eq!(started(&mut schedule), [expected]);
        schedule.done(expected);
    }
}

#[test]
fn an_image_whose_requests_never_end_leaves_the_others_their_own() {
    let mut schedule = Schedule::new(LIMITS);
    let hanging: Vec<_> = (0..10).map(|_| schedule.join()).collect();
    for member in hanging {
        for class in Class::ALL.repeat(20) {
            schedule.push(member, class, 30);
        }
    }
    started(&mut schedule);
    let healthy = schedule.join();
    let faults = [0, 1].map(|_| schedule.push(healthy, Class::Fault, 30));
    let fill = schedule.push(healthy, Class::Fill, 30);
    assert_eq!(started(&mut schedule), [faults[0], faults[1], fill]);
}

#[test]
fn who_joins_late_does_not_get_back_what_others_were_given() {
    let mut schedule = Schedule::new(ONE_AT_A_TIME);
    let early = schedule.join();
    for _ in 0..100 {
        let ticket = schedule.push(early, Class::Fill, 10);
        assert_eq!(started(&mut schedule), [ticket]);
        schedule.done(ticket);
    }
    let late = schedule.join();
    for member in [late, early].repeat(10) {
        schedule.push(member, Class::Fill, 10);
    }
    let order: Vec<_> = std::iter::from_fn(|| {
        let ticket = schedule.next()?;
        let member = schedule.requests[&ticket].member;
        schedule.done(ticket);
        Some(member)
    })
    .collect();
    let first = order[..10].iter().filter(|member| **member == late).count();
    assert!(
        (4..=6).contains(&first),
        "{first} of the first ten are the late one's"
    );
}

#[test]
fn cancelling_spares_faults_and_what_runs() {
    let limits = Limits {
        own_for_faults: 0,
        shared: 0,
        shared_for_faults: 0,
        ..LIMITS
    };
    let mut schedule = Schedule::new(limits);
    let member = schedule.join();
    let running = schedule.push(member, Class::Fill, 1);
    assert_eq!(started(&mut schedule), [running]);
    let fault = schedule.push(member, Class::Fault, 1);
    let hint = schedule.push(member, Class::Hint, 1);
    assert_eq!(schedule.cancel(member), [hint]);
    assert_eq!(schedule.superiors(running).collect::<Vec<_>>(), [fault]);
    assert_eq!(schedule.superiors(fault).count(), 0);
}
