//! Readers of many kinds, and what is fetched ahead of them.

use proptest::prelude::*;

use super::*;

const PIECE: u64 = 256 << 10;

/// Reads pieces from `start` on and gives what was to be fetched ahead.
fn read(streams: &mut Streams, start: u64, pieces: u64) -> Vec<Range<u64>> {
    (0..pieces)
        .filter_map(|piece| streams.touch(&(start + piece * PIECE..start + (piece + 1) * PIECE)))
        .collect()
}

#[test]
fn a_sequential_reader_gets_a_growing_window() {
    let mut streams = Streams::default();
    let ahead = read(&mut streams, 0, 400);
    assert_eq!(ahead[0], PIECE + START_LEN..PIECE + START_LEN + WINDOW_MIN);
    for pair in ahead.windows(2) {
        assert_eq!(pair[0].end, pair[1].start, "without gap and without overlap");
    }
    let place = 400 * PIECE;
    let left = ahead.last().unwrap().end - place;
    assert!(
        (WINDOW_MAX / 2 - PIECE..=WINDOW_MAX).contains(&left),
        "{left} ahead"
    );
}

#[test]
fn sixteen_streams_of_one_file_are_all_recognised() {
    let mut streams = Streams::default();
    let part = 100 << 20;
    let mut ahead = vec![0; 16];
    for piece in 0..200 {
        for (reader, sum) in (0_u64..).zip(&mut ahead) {
            let start = reader * part + piece * PIECE;
            *sum += streams
                .touch(&(start..start + PIECE))
                .map_or(0, |range| range.end - range.start);
        }
    }
    for sum in ahead {
        assert!(sum >= 198 * PIECE - START_LEN, "{sum} ahead");
    }
}

#[test]
fn a_fault_ahead_of_a_stream_moves_it() {
    let mut streams = Streams::default();
    let ahead = read(&mut streams, 0, 100);
    let jump = ahead.last().unwrap().end - PIECE;
    assert!(jump > 100 * PIECE + SLACK);
    assert_eq!(streams.touch(&(jump..jump + PIECE)), None);
    // It has to show anew that it goes on, and then runs ahead from where it is.
    let again = read(&mut streams, jump + PIECE, START_LEN / PIECE + 1);
    let last = again.last().unwrap();
    assert!(
        last.start >= jump + PIECE && last.end - last.start <= WINDOW_MIN + PIECE,
        "{last:?}"
    );
    assert_eq!(streams.streams.len(), 1);
}

#[test]
fn requests_that_overtake_each_other_are_one_reader() {
    let mut streams = Streams::default();
    // Pairs change places, and each is asked for in four parts.
    let pieces = (0..400_u64).map(|piece| piece ^ 1).flat_map(|piece| [piece; 4]);
    let ahead: u64 = pieces
        .filter_map(|piece| streams.touch(&(piece * PIECE..(piece + 1) * PIECE)))
        .map(|range| range.end - range.start)
        .sum();
    assert!(ahead >= 390 * PIECE - START_LEN, "{ahead} ahead");
}

#[test]
fn a_reader_that_leaves_much_out_is_no_stream() {
    let mut streams = Streams::default();
    for step in 0..200 {
        // Each touch is near the one before, and two thirds are never wanted.
        let start = step * 3 * PIECE;
        assert_eq!(streams.touch(&(start..start + PIECE)), None);
    }
}

#[test]
fn small_files_here_and_there_are_no_stream() {
    let mut streams = Streams::default();
    for place in [5, 900, 17, 300, 44, 620] {
        assert!(read(&mut streams, place << 20, 3).is_empty());
    }
}

proptest! {
    #[test]
    fn random_readers_get_nothing_and_whatever_comes_is_bounded(
        offsets in prop::collection::vec(0_u64..1 << 40, 1..300),
    ) {
        let mut streams = Streams::default();
        for offset in &offsets {
            // A tebibyte is large enough that random places are never neighbours, bar a coincidence.
            let lonely = offsets.iter().filter(|other| other.abs_diff(*offset) <= 2 * WINDOW_MAX).count() == 1;
            let ahead = streams.touch(&(*offset..*offset + 4096));
            prop_assert!(!lonely || ahead.is_none());
            prop_assert!(streams.streams.len() <= COUNT_MAX);
        }
    }

    #[test]
    fn nothing_is_asked_for_twice_and_never_more_than_a_window_ahead(
        touches in prop::collection::vec((0_u64..64, 1_u64..8), 1..200),
    ) {
        let mut streams = Streams::default();
        for (place, len) in touches {
            let bytes = place * PIECE..(place + len) * PIECE;
            let before = streams.streams.clone();
            if let Some(ahead) = streams.touch(&bytes) {
                prop_assert!(ahead.start < ahead.end);
                let stream = streams.streams.iter().max_by_key(|stream| stream.touched).unwrap();
                prop_assert_eq!(ahead.end, stream.ahead);
                prop_assert!(stream.ahead - stream.place <= WINDOW_MAX);
                prop_assert!(ahead.start >= before.iter().map(|stream| stream.ahead).min().unwrap());
            }
            for stream in &streams.streams {
                prop_assert!(stream.start <= stream.place && stream.place <= stream.ahead);
            }
        }
    }
}
