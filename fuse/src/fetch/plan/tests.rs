use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    block_len: 1000,
    gap_max: 50,
    range_max: 2500,
};

fn stored(table: &[Span], index: u32) -> Stored {
    Stored {
        index,
        span: table[index as usize],
    }
}

/// Chunks of these lengths, one after the other.
fn packed(lens: &[u32]) -> Vec<Span> {
    let mut offset = 0;
    lens.iter()
        .map(|&len| {
            let span = Span { offset, len };
            offset += u64::from(len);
            span
        })
        .collect()
}

fn plan(table: &[Span], wanted: &[u32], present: &[u32]) -> Vec<FetchRange> {
    let wanted: Vec<_> = wanted.iter().map(|&index| stored(table, index)).collect();
    let neighbour = |index: u32| {
        table
            .get(index as usize)
            .copied()
            .filter(|_| !present.contains(&index))
    };
    ranges(&wanted, neighbour, &LIMITS)
}

fn shape(ranges: &[FetchRange]) -> Vec<(Range<u64>, Vec<u32>)> {
    ranges
        .iter()
        .map(|range| {
            (
                range.bytes.clone(),
                range.chunks.iter().map(|chunk| chunk.index).collect(),
            )
        })
        .collect()
}

#[test]
fn a_miss_brings_its_block() {
    let table = packed(&[300; 10]);
    assert_eq!(shape(&plan(&table, &[4], &[])), [(1200..2100, vec![4, 5, 6])]);
    assert_eq!(shape(&plan(&table, &[6], &[])), [(1200..2100, vec![4, 5, 6])]);
}

#[test]
fn growth_ends_at_what_is_there() {
    let table = packed(&[100; 30]);
    assert_eq!(
        shape(&plan(&table, &[14], &[12, 16])),
        [(1300..1600, vec![13, 14, 15])]
    );
}

#[test]
fn wanted_chunks_apart_are_two_requests_and_close_ones_are_one() {
    let table = packed(&[600, 40, 600, 600, 700, 700, 700, 700]);
    let all: Vec<u32> = vec![1, 3, 4, 5];
    assert_eq!(shape(&plan(&table, &[0, 2], &all)), [(0..1240, vec![0, 2])]);
    assert_eq!(
        shape(&plan(&table, &[0, 6], &[1, 2, 3, 4, 5, 7])),
        [(0..600, vec![0]), (3240..3940, vec![6])]
    );
}

#[test]
fn a_request_skips_no_more_than_the_limit_in_all() {
    let table = packed(&[100, 30, 100, 15, 100, 10, 100]);
    assert_eq!(
        shape(&plan(&table, &[0, 2, 4, 6], &[1, 3, 5])),
        [(0..345, vec![0, 2, 4]), (355..455, vec![6])]
    );
}

#[test]
fn units_that_overlap_are_one_request() {
    let span = |offset, len| Span { offset, len };
    let table = [span(10, 900), span(700, 400), span(800, 100), span(1000, 900)];
    assert_eq!(shape(&plan(&table, &[0, 3], &[])), [(10..1900, vec![0, 1, 2, 3])]);
}

#[test]
fn a_chunk_longer_than_a_range_is_one_request() {
    let table = packed(&[10_000, 10_000]);
    assert_eq!(
        shape(&plan(&table, &[0, 1], &[])),
        [(0..10_000, vec![0]), (10_000..20_000, vec![1])]
    );
}

fn table() -> impl Strategy<Value = Vec<Span>> {
    let sane = proptest::collection::vec((0_u32..400, 0_u64..120), 1..80).prop_map(|lens| {
        let mut offset = 0;
        lens.into_iter()
            .map(|(len, gap)| {
                offset += gap;
                let span = Span { offset, len };
                offset += u64::from(len);
                span
            })
            .collect()
    });
    let wild = proptest::collection::vec((0_u64..9000, 0_u32..400), 1..80).prop_map(|spans| {
        spans
            .into_iter()
            .map(|(offset, len)| Span { offset, len })
            .collect()
    });
    prop_oneof![4 => sane, 1 => wild]
}

proptest! {
    #[test]
    fn every_wanted_chunk_comes_once_and_nothing_that_is_there(
        table in table(),
        wanted in proptest::collection::vec(any::<prop::sample::Index>(), 1..12),
        present in proptest::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let wanted: BTreeSet<u32> = wanted.iter().map(|pick| pick.index(table.len()) as u32).collect();
        let present: BTreeSet<u32> = present
            .iter()
            .map(|pick| pick.index(table.len()) as u32)
            .filter(|index| !wanted.contains(index))
            .collect();
        let order: Vec<u32> = wanted.iter().copied().collect();
        let ranges = plan(&table, &order, &present.iter().copied().collect::<Vec<_>>());

        let mut seen = BTreeSet::new();
        for range in &ranges {
            let (mut start, mut position) = (range.bytes.start, range.bytes.start);
            let mut skipped = 0;
            for chunk in &range.chunks {
                prop_assert_eq!(chunk.span, table[chunk.index as usize]);
                prop_assert!(seen.insert(chunk.index), "chunk {} twice", chunk.index);
                prop_assert!(!present.contains(&chunk.index));
                prop_assert!(chunk.span.offset >= start);
                skipped += chunk.span.offset.saturating_sub(position);
                start = chunk.span.offset;
                position = position.max(start + u64::from(chunk.span.len));
            }
            prop_assert_eq!(position, range.bytes.end);
            prop_assert!(skipped <= LIMITS.gap_max);
            prop_assert!(range.chunks.len() == 1 || range.bytes.end - range.bytes.start <= LIMITS.range_max);
        }
        prop_assert!(wanted.is_subset(&seen));

        // Whatever came along starts in the block of something wanted.
        let blocks: BTreeSet<u64> = wanted.iter().map(|&i| table[i as usize].offset / LIMITS.block_len).collect();
        for index in seen {
            prop_assert!(blocks.contains(&(table[index as usize].offset / LIMITS.block_len)));
        }
    }
}
