//! Byte ranges in headers.

use std::ops::Range;

/// The value of a `Range` header for a range that is not empty.
pub(super) fn request_header(range: &Range<u64>) -> String {
    format!("bytes={}-{}", range.start, range.end.saturating_sub(1))
}

/// What a `Content-Range` header says.
#[derive(Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// Which bytes were sent; never empty.
    pub range: Range<u64>,
    /// Length of the whole, when it is told.
    pub total: Option<u64>,
}

impl ContentRange {
    /// Reads `bytes FIRST-LAST/TOTAL`; `None` when it is anything else.
    pub fn parse(header: &str) -> Option<Self> {
        let (range, total) = header
            .trim()
            .strip_prefix("bytes ")?
            .trim_start()
            .split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        let end = last.checked_add(1)?;
        let total = match total.trim() {
            "*" => None,
            total => Some(total.parse().ok()?),
        };
        let valid = first < end && total.is_none_or(|total: u64| end <= total);
        valid.then_some(Self {
            range: first..end,
            total,
        })
    }
}

/// The end of what an upload holds, from its `Range: 0-LAST` header.
pub(super) fn upload_end(header: &str) -> Option<u64> {
    let (first, last) = header.trim_start_matches("bytes=").split_once('-')?;
    (first == "0").then_some(())?;
    last.parse::<u64>().ok()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        let parsed = |header| ContentRange::parse(header).map(|found| (found.range, found.total));
        assert_eq!(parsed("bytes 0-0/1"), Some((0..1, Some(1))));
        assert_eq!(parsed("bytes 10-19/*"), Some((10..20, None)));
        for bad in [
            "",
            "bytes */10",
            "bytes 5-4/10",
            "bytes 0-10/10",
            "items 0-1/2",
            "bytes 0-18446744073709551615/*",
        ] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
        assert_eq!(request_header(&(3..7)), "bytes=3-6");
    }

    #[test]
    fn upload_ranges() {
        assert_eq!(upload_end("0-9"), Some(10));
        assert_eq!(upload_end("bytes=0-9"), Some(10));
        assert_eq!(upload_end("1-9"), None);
        assert_eq!(upload_end("0-x"), None);
    }
}
