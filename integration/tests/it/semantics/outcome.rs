//! What is observed of a case, in the words of the document.

use std::fmt;

use fuse::{CacheStatus, ImageStatus};

/// One outcome. Each field is a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// What the reader sees.
    pub(super) sees: String,
    /// When it sees that.
    pub(super) when: String,
    /// Whether the source is asked more than once.
    pub(super) again: String,
    /// Which counters tell of it.
    pub(super) counted: String,
    /// What is still known of it when the cause is gone.
    pub(super) remembered: String,
}

pub(super) const BYTES: &str = "the bytes";
pub(super) const EIO: &str = "EIO";
pub(super) const IN_TIME: &str = "in time";
pub(super) const AT_ONCE: &str = "at once";
pub(super) const AT_DEADLINE: &str = "at the deadline";
pub(super) const YES: &str = "yes";
pub(super) const NO: &str = "no";
pub(super) const NOTHING: &str = "nothing";

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome {
            sees,
            when,
            again,
            counted,
            remembered,
        } = self;
        write!(
            formatter,
            "| {sees} | {when} | {again} | {counted} | {remembered} |"
        )
    }
}

/// The counters that moved.
pub(super) fn counted(before: (&ImageStatus, &CacheStatus), after: (&ImageStatus, &CacheStatus)) -> String {
    let moved = [
        ("read errors", before.0.read_errors != after.0.read_errors),
        ("write errors", before.1.write_errors != after.1.write_errors),
        ("refused", before.1.bytes_refused != after.1.bytes_refused),
        ("evicted", before.1.bytes_evicted != after.1.bytes_evicted),
    ];
    let names: Vec<_> = moved
        .iter()
        .filter_map(|(name, has_moved)| has_moved.then_some(*name))
        .collect();
    match names.is_empty() {
        true => NOTHING.to_owned(),
        false => names.join(", "),
    }
}
