//! Which request goes next: classes, permits, bytes and fairness. Pure.
//!
//! Of what waits, the most urgent class goes first; inside a class, the image that has been given least for its weight;
//! inside an image, what waits longest. A request starts when it finds a permit:
//!
//! | permits | how many | for whom |
//! |---|---|---|
//! | an image's own for faults | [`Limits::own_for_faults`] each | its faults |
//! | an image's own | [`Limits::own`] each | whatever else it wants |
//! | the node's | [`Limits::shared`], within [`Limits::bytes`] | all, up to [`Limits::share_max`] for one image's faults and as many for the rest of it |
//!
//! Of the node's permits and bytes a part is for faults only. So a fault never waits for a permit that something less
//! urgent holds, and images whose registry hangs can hold all of the node's permits without taking the last ones of an
//! image whose registry answers.

use std::collections::{BTreeMap, BTreeSet};

/// Why bytes are wanted, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Class {
    /// A reader waits for them.
    Fault,
    /// A reader is on its way to them.
    Readahead,
    /// Somebody said beforehand that they would be wanted.
    Hint,
    /// They are part of something large that is read from end to end.
    Weights,
    /// The rest of the image, when nothing else is wanted.
    Fill,
}

impl Class {
    /// All of them, the most urgent first.
    pub(crate) const ALL: [Class; 5] = [
        Class::Fault,
        Class::Readahead,
        Class::Hint,
        Class::Weights,
        Class::Fill,
    ];
}

/// How much may run at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Permits of each image for faults only.
    pub(crate) own_for_faults: usize,
    /// Permits of each image for the other classes.
    pub(crate) own: usize,
    /// Permits of the node.
    pub(crate) shared: usize,
    /// Of these, for faults only.
    pub(crate) shared_for_faults: usize,
    /// Permits of the node that one image's faults may hold, and again that the rest of it may hold.
    pub(crate) share_max: usize,
    /// Stored bytes that requests with the node's permits may ask for at once. Each image's own permits come on top.
    pub(crate) bytes: u64,
    /// Of these, for faults only. Nothing larger counts as more, so that it fits some time.
    pub(crate) bytes_for_faults: u64,
}

/// A request, by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(u64);

/// One of those that share the node: an image, for as long as it is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Member(u64);

/// Where a running request has its permit from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seat {
    OwnForFaults,
    Own,
    SharedForFaults,
    Shared,
}

/// Why a request does not start.
enum Wait {
    /// For something its own image holds.
    Image,
    /// For something the node's images hold.
    Node,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    member: Member,
    class: Class,
    bytes: u64,
    /// `None` while it waits.
    seat: Option<Seat>,
}

/// A member's share of a class.
#[derive(Default)]
struct Lane {
    waiting: BTreeSet<Ticket>,
    /// Bytes given for its weight, on the class's own scale.
    given: u64,
}

/// Permits in use, by seat.
#[derive(Clone, Copy, Debug, Default)]
struct Held([usize; 4]);

struct Share {
    weight: u32,
    /// Permits that the classes below faults may hold together.
    width: usize,
    held: Held,
    lanes: [Lane; Class::ALL.len()],
}

/// Requests that wait and run.
pub(crate) struct Schedule {
    limits: Limits,
    last: u64,
    requests: BTreeMap<Ticket, Request>,
    shares: BTreeMap<Member, Share>,
    /// How far each class has come: who joins late does not get back what others were given before.
    given: [u64; Class::ALL.len()],
    held: Held,
    /// Bytes that requests in shared seats ask for: of faults, of the rest.
    bytes: [u64; 2],
}

/// Bytes are counted in parts as small as this, so that the division by the weight loses nothing that matters.
const SCALE: u64 = 256;

impl Schedule {
    /// Makes a schedule without members.
    pub(crate) fn new(limits: Limits) -> Self {
        Schedule {
            limits,
            last: 0,
            requests: BTreeMap::new(),
            shares: BTreeMap::new(),
            given: [0; Class::ALL.len()],
            held: Held::default(),
            bytes: [0; 2],
        }
    }

    /// Adds a member, of weight 1.
    pub(crate) fn join(&mut self) -> Member {
        self.last += 1;
        let member = Member(self.last);
        let share = Share {
            weight: 1,
            width: self.limits.own + self.limits.share_max,
            held: Held::default(),
            lanes: Default::default(),
        };
        self.shares.insert(member, share);
        member
    }

    /// Takes a member away with all it has, and returns that.
    pub(crate) fn leave(&mut self, member: Member) -> Vec<Ticket> {
        let left = self.tickets(|request| request.member == member);
        for ticket in &left {
            self.done(*ticket);
        }
        self.shares.remove(&member);
        left
    }

    /// Sets what a member gets against others: twice the weight, twice the bytes.
    pub(crate) fn weigh(&mut self, member: Member, weight: u32) {
        if let Some(share) = self.shares.get_mut(&member) {
            share.weight = weight.max(1);
        }
    }

    /// Sets how many requests below faults a member may run, within the limits of all.
    pub(crate) fn widen(&mut self, member: Member, width: usize) {
        if let Some(share) = self.shares.get_mut(&member) {
            share.width = width.max(1);
        }
    }

    /// Adds a request of a member. It runs when [`Schedule::next`] says so.
    pub(crate) fn push(&mut self, member: Member, class: Class, bytes: u64) -> Ticket {
        self.last += 1;
        let ticket = Ticket(self.last);
        let request = Request {
            member,
            class,
            bytes: bytes.min(self.limits.bytes_for_faults),
            seat: None,
        };
        self.requests.insert(ticket, request);
        self.enqueue(ticket, &request);
        ticket
    }

    /// Makes a request more urgent. One that waits keeps its age; one that runs, its seat. Returns whether there was
    /// something to do.
    pub(crate) fn promote(&mut self, ticket: Ticket, class: Class) -> bool {
        let known = self.requests.get_mut(&ticket);
        let Some(request) = known.filter(|request| class < request.class) else {
            return false;
        };
        let old = *request;
        request.class = class;
        let new = *request;
        if old.seat.is_none() {
            self.dequeue(ticket, &old);
            self.enqueue(ticket, &new);
        }
        true
    }

    /// Starts the next request, if one may run.
    pub(crate) fn next(&mut self) -> Option<Ticket> {
        // Once something waits for what the node has, nothing that comes after it takes that away.
        let mut is_node_taken = false;
        for class in Class::ALL {
            let mut lanes: Vec<_> = (self.shares.values())
                .filter_map(|share| {
                    let lane = &share.lanes[class as usize];
                    Some((lane.given, *lane.waiting.first()?))
                })
                .collect();
            lanes.sort_unstable();
            for (_, ticket) in lanes {
                match self.seat(&self.requests[&ticket]) {
                    Ok(Seat::Shared | Seat::SharedForFaults) if is_node_taken => {}
                    Ok(seat) => {
                        self.start(ticket, seat);
                        return Some(ticket);
                    }
                    Err(Wait::Image) => {}
                    Err(Wait::Node) => is_node_taken = true,
                }
            }
        }
        None
    }

    /// Ends a request, whether it runs or waits. One that has ended already is no error.
    pub(crate) fn done(&mut self, ticket: Ticket) {
        let Some(request) = self.requests.remove(&ticket) else {
            return;
        };
        match request.seat {
            None => self.dequeue(ticket, &request),
            Some(seat) => {
                self.held.0[seat as usize] -= 1;
                if let Some(share) = self.shares.get_mut(&request.member) {
                    share.held.0[seat as usize] -= 1;
                }
                if let Some(bytes) = seat.pool().map(|pool| &mut self.bytes[pool]) {
                    *bytes -= request.bytes;
                }
            }
        }
    }

    /// Takes away what a member has waiting below faults, and returns it.
    pub(crate) fn cancel(&mut self, member: Member) -> Vec<Ticket> {
        let cancelled = self.tickets(|request| {
            request.member == member && request.seat.is_none() && request.class != Class::Fault
        });
        for ticket in &cancelled {
            self.done(*ticket);
        }
        cancelled
    }

    /// How urgent a request is by now; one that has ended is not.
    pub(crate) fn class(&self, ticket: Ticket) -> Class {
        (self.requests.get(&ticket)).map_or(Class::Fill, |request| request.class)
    }

    /// Requests more urgent than this one, waiting and running.
    pub(crate) fn superiors(&self, ticket: Ticket) -> impl Iterator<Item = Ticket> {
        let own = self.requests.get(&ticket).map(|request| request.class);
        (self.requests.iter())
            .filter(move |(_, request)| own.is_some_and(|own| request.class < own))
            .map(|(ticket, _)| *ticket)
    }

    fn tickets(&self, which: impl Fn(&Request) -> bool) -> Vec<Ticket> {
        let found = self.requests.iter().filter(|(_, request)| which(request));
        found.map(|(ticket, _)| *ticket).collect()
    }

    /// Finds a seat for a request.
    fn seat(&self, request: &Request) -> Result<Seat, Wait> {
        let Limits {
            own_for_faults,
            own,
            shared,
            shared_for_faults,
            share_max,
            bytes,
            bytes_for_faults,
        } = self.limits;
        let share = &self.shares[&request.member];
        let is_fault = request.class == Class::Fault;
        let rest = share.held.get(Seat::Own) + share.held.get(Seat::Shared);
        if is_fault && share.held.get(Seat::OwnForFaults) < own_for_faults {
            return Ok(Seat::OwnForFaults);
        }
        if !is_fault && rest >= share.width {
            return Err(Wait::Image);
        }
        if !is_fault && share.held.get(Seat::Own) < own {
            return Ok(Seat::Own);
        }
        let seat = if is_fault {
            Seat::SharedForFaults
        } else {
            Seat::Shared
        };
        if share.held.get(seat) >= share_max {
            return Err(Wait::Image);
        }
        let all = self.held.get(Seat::Shared) + self.held.get(Seat::SharedForFaults);
        let has_room = all < shared && self.bytes.iter().sum::<u64>() + request.bytes <= bytes;
        let leaves_room = is_fault
            || (self.held.get(Seat::Shared) + shared_for_faults < shared
                && self.bytes[1] + request.bytes + bytes_for_faults <= bytes);
        if has_room && leaves_room {
            Ok(seat)
        } else {
            Err(Wait::Node)
        }
    }

    fn start(&mut self, ticket: Ticket, seat: Seat) {
        let Some(request) = self.requests.get_mut(&ticket) else {
            return;
        };
        request.seat = Some(seat);
        let request = *request;
        self.dequeue(ticket, &request);
        self.held.0[seat as usize] += 1;
        if let Some(bytes) = seat.pool().map(|pool| &mut self.bytes[pool]) {
            *bytes += request.bytes;
        }
        if let Some(share) = self.shares.get_mut(&request.member) {
            share.held.0[seat as usize] += 1;
            let lane = &mut share.lanes[request.class as usize];
            let class = &mut self.given[request.class as usize];
            *class = lane.given.max(*class);
            // A request of no bytes takes a permit all the same.
            let given = request.bytes.max(1).saturating_mul(SCALE) / u64::from(share.weight);
            lane.given = lane.given.saturating_add(given);
        }
    }

    fn enqueue(&mut self, ticket: Ticket, request: &Request) {
        let class = request.class as usize;
        if let Some(share) = self.shares.get_mut(&request.member) {
            let lane = &mut share.lanes[class];
            if lane.waiting.is_empty() {
                lane.given = lane.given.max(self.given[class]);
            }
            lane.waiting.insert(ticket);
        }
    }

    fn dequeue(&mut self, ticket: Ticket, request: &Request) {
        if let Some(share) = self.shares.get_mut(&request.member) {
            share.lanes[request.class as usize].waiting.remove(&ticket);
        }
    }
}

impl Seat {
    /// Whose bytes it counts among: faults or the rest.
    fn pool(self) -> Option<usize> {
        match self {
            Seat::OwnForFaults | Seat::Own => None,
            Seat::SharedForFaults => Some(0),
            Seat::Shared => Some(1),
        }
    }
}

impl Held {
    fn get(&self, seat: Seat) -> usize {
        self.0[seat as usize]
    }
}

#[cfg(test)]
mod tests;
