//! Hints: what to fetch ahead, from images and from people.

use rafs::hints::{FILE_COUNT_MAX, Hints, RANGE_COUNT_MAX};

/// Reads a list of hints.
///
/// Paths are absolute and do not climb, ranges hold something, and the list is written as it was read.
pub fn hints(input: &[u8]) {
    let Ok(hints) = Hints::parse(input) else { return };
    assert!(hints.files.len() <= FILE_COUNT_MAX);
    let mut range_count = 0;
    for hint in &hints.files {
        let is_strange = |part: &str| matches!(part, "" | "." | "..") || part.contains('\0');
        let rest = hint.path.strip_prefix('/').expect("paths are absolute");
        assert!(
            rest.is_empty() || !rest.split('/').any(is_strange),
            "{:?}",
            hint.path
        );
        assert!(hint.ranges.iter().all(|range| range.start < range.end));
        range_count += hint.ranges.len();
    }
    assert!(range_count <= RANGE_COUNT_MAX);
    let Ok(text) = hints.to_json() else {
        // Numbers and escapes may take more room than they did.
        return assert!(input.len() > rafs::hints::TEXT_LEN_MAX / 8);
    };
    assert_eq!(Hints::parse(&text).expect("what is written can be read"), hints);
}
