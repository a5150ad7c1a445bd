//! Turns that come, are promoted, cancelled and dropped. Time stands still unless it is waited for.

use futures::FutureExt;

use super::*;

const LIMITS: Limits = Limits {
    own_for_faults: 0,
    own: 0,
    shared: 1,
    shared_for_faults: 0,
    share_max: 1,
    bytes: 20,
    bytes_for_faults: 10,
};

fn is_waiting(turn: &mut Turn) -> bool {
    turn.started.try_recv() == Err(oneshot::error::TryRecvError::Empty)
}

#[tokio::test]
async fn turns_come_by_class_and_whoever_goes_makes_room() {
    let queue = Queue::new(LIMITS);
    let lane = queue.lane();
    let running = lane
        .enter(Class::Fill, 1)
        .come()
        .now_or_never()
        .flatten()
        .unwrap();
    let mut hint = lane.enter(Class::Hint, 1);
    let dropped = lane.enter(Class::Fault, 1);
    let mut fill = lane.enter(Class::Fill, 1);
    assert!(is_waiting(&mut hint));
    queue.promote(fill.ticket(), Class::Readahead);
    drop(dropped);
    drop(running);
    assert!(is_waiting(&mut hint));
    assert!(fill.started.try_recv().is_ok());
    drop(fill);
    assert!(hint.come().now_or_never().flatten().is_some());
    assert!(queue.lock().known.is_empty());
}

#[tokio::test]
async fn what_is_cancelled_and_what_is_left_behind_never_comes() {
    let queue = Queue::new(LIMITS);
    let lane = queue.lane();
    let other = queue.lane();
    let running = other.enter(Class::Fault, 1).come().now_or_never().flatten();
    let fill = lane.enter(Class::Fill, 1);
    let mut fault = lane.enter(Class::Fault, 1);
    lane.cancel();
    assert!(fill.come().now_or_never().unwrap().is_none());
    assert!(is_waiting(&mut fault));
    drop(lane);
    assert!(fault.come().now_or_never().unwrap().is_none());
    drop(running);
    assert!(
        other
            .enter(Class::Fill, 1)
            .come()
            .now_or_never()
            .flatten()
            .is_some()
    );
}

/// Longer than any test runs.
const FOR_EVER: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_stream_gives_way_to_what_moves_and_for_no_longer_than_it_likes() {
    let queue = Queue::new(Limits {
        shared: 2,
        share_max: 2,
        ..LIMITS
    });
    let lane = queue.lane();
    let fill = lane.enter(Class::Fill, 1).come().await.unwrap();
    fill.give_way(FOR_EVER).await;

    let fault = lane.enter(Class::Fault, 1).come().await.unwrap();
    assert!(fault.outranked_until().is_none());
    assert!(fill.outranked_until().is_some());
    fill.give_way(Duration::ZERO).await;

    // One that is silent is not waited for any longer, until it moves again.
    let long_ago = Instant::now() - SILENCE_MAX;
    queue.lock().known.get_mut(&fault.ticket).unwrap().moved = long_ago;
    fill.give_way(FOR_EVER).await;
    assert_eq!(fault.note_progress(), Class::Fault);
    assert!(fill.outranked_until().is_some());
}

#[tokio::test]
async fn a_stream_goes_on_when_the_fault_ends_or_is_its_own() {
    let queue = Queue::new(LIMITS);
    let lane = queue.lane();
    let fill = lane.enter(Class::Fill, 1).come().await.unwrap();
    let fault = lane.enter(Class::Fault, 1);
    let keep_moving = async {
        loop {
            fault.permit.note_progress();
            tokio::task::yield_now().await;
        }
    };
    let other = async {
        tokio::task::yield_now().await;
        queue.promote(fill.ticket, Class::Fault);
        futures::future::pending::<()>().await;
    };
    tokio::select! {
        () = fill.give_way(FOR_EVER) => {}
        () = keep_moving => {}
        () = other => {}
    }
    assert_eq!(fill.note_progress(), Class::Fault);
}
