//! Images that become complete by themselves, without a mount.

use super::*;
use crate::fetch::scene::{LEN, Scene, scene};
use crate::fixture::{CHUNK_LEN, Fault, noise};

fn filler(scene: &Scene) -> Filler {
    Filler::new(None, 0, scene.dir.path().to_owned())
}

#[tokio::test]
async fn an_image_becomes_complete_and_every_byte_comes_once() {
    let scene = scene();
    assert_eq!(scene.served.status().bytes_needed, LEN as u64);
    scene.served.supply.fill(&filler(&scene));
    scene.completion().await;
    let mut reads = scene.source.reads();
    reads.sort_by_key(|range| range.start);
    assert!(
        reads.len() > 1 && reads.windows(2).all(|pair| pair[0].end <= pair[1].start),
        "{reads:?}"
    );
    assert!(
        reads
            .iter()
            .all(|range| range.end - range.start <= LIMITS.range_max)
    );
    let status = scene.served.status();
    assert_eq!(
        status.bytes_fetched,
        reads.iter().map(|range| range.end - range.start).sum::<u64>()
    );
    assert_eq!(
        (status.bytes_fill, status.bytes_demand),
        (status.bytes_fetched, 0)
    );
    scene.end().await;
}

#[tokio::test]
async fn a_source_that_fails_is_asked_again() {
    for fault in [Fault::Refuse, Fault::Short(1000), Fault::Flip(CHUNK_LEN)] {
        let scene = scene();
        scene.source.set(Fault::First(2, Box::new(fault)));
        scene.served.supply.fill(&filler(&scene));
        scene.completion().await;
        scene.end().await;
    }
}

#[tokio::test]
async fn an_image_that_is_removed_is_filled_no_further_and_still_read() {
    let scene = scene();
    scene.source.set(Fault::Hang);
    scene.served.supply.fill(&filler(&scene));
    while scene.source.reads().is_empty() {
        tokio::task::yield_now().await;
    }
    scene.served.supply.retire();
    scene.source.set(Fault::None);
    let asked = scene.source.reads().len();
    assert_eq!(scene.read(0, 100).await, noise(LEN, 1)[..100]);
    // A reader's own request, once the one that hangs has been given up, and nothing of the filling.
    assert!(scene.source.reads().len() <= asked + 1);
    assert!(!scene.is_complete());
    assert!(scene.served.status().blocked > Duration::ZERO);
    scene.end().await;
}

#[tokio::test]
async fn a_new_container_begins_anew_after_a_removal() {
    let scene = scene();
    scene.source.set(Fault::Hang);
    scene.served.supply.fill(&filler(&scene));
    scene.served.supply.retire();
    scene.source.set(Fault::None);
    scene.served.supply.fill(&filler(&scene));
    scene.completion().await;
    scene.end().await;
}

#[tokio::test]
async fn a_disk_without_room_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let filler = |free_min| Filler::new(None, free_min, dir.path().to_owned());
    assert!(filler(0).has_room());
    assert!(!filler(u64::MAX).has_room());
}
