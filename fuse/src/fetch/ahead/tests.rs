//! Readers of one file, and what is asked of the source for them.

use crate::fetch::scene::{LEN, scene};
use crate::fixture::{CHUNK_LEN, noise};

const BLOCK_LEN: u64 = 1 << 20;

#[tokio::test]
async fn a_sequential_reader_finds_what_it_comes_to() {
    let scene = scene();
    let content = noise(LEN, 1);
    let step = 8 * CHUNK_LEN;
    for offset in (0..LEN).step_by(step) {
        assert_eq!(scene.read(offset, step).await, content[offset..offset + step]);
    }
    scene.completion().await;
    let mut reads = scene.source.reads();
    // Far fewer requests than blocks from the moment it is known to be sequential, some of several blocks.
    assert!(
        reads.iter().any(|range| range.end - range.start > BLOCK_LEN),
        "{reads:?}"
    );
    reads.sort_by_key(|range| range.start);
    assert!(
        reads.windows(2).all(|pair| pair[0].end <= pair[1].start),
        "{reads:?}"
    );
    let status = scene.served.status();
    assert_eq!(
        (status.bytes_demand, status.bytes_fill),
        (status.bytes_fetched, 0)
    );
    scene.end().await;
}

#[tokio::test]
async fn a_random_reader_costs_a_block_for_each_miss() {
    let scene = scene();
    let content = noise(LEN, 1);
    for offset in [9 << 20, 1 << 20, 3 << 20] {
        // Again, as programs do: it shows nothing new.
        for _ in 0..3 {
            assert_eq!(scene.read(offset, 100).await, content[offset..offset + 100]);
        }
    }
    let reads = scene.source.reads();
    assert_eq!(reads.len(), 3, "{reads:?}");
    assert!(
        reads
            .iter()
            .all(|range| range.end - range.start <= BLOCK_LEN + CHUNK_LEN as u64),
        "{reads:?}"
    );
    scene.end().await;
}
