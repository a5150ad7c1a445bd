//! Readers that go on while daemons die: a program of its own, so that a fault in mapped memory ends only itself.
//!
//! A reader compares a tree with its truth until its standard input ends, and then prints a [`Report`].

mod way;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

pub use way::{LARGE, Way};

/// Errors that are told; the rest is counted.
const TOLD_MAX: usize = 10;
/// Operations that took longer than these nanoseconds are told one by one.
const SLOW_NANOS: u64 = 5_000_000;
/// Slow operations that are told: more than a thousand kills make.
const SLOW_MAX: usize = 100_000;

/// What a reader met.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Operations that ended.
    pub operation_count: u64,
    /// Operations that ended in an error.
    pub error_count: u64,
    /// Operations that gave something else than the truth.
    pub wrong_count: u64,
    /// The first errors and wrong answers.
    pub told: Vec<String>,
    /// Begin and end, by [`now`], of operations that took long.
    pub slow: Vec<(u64, u64)>,
}

impl Report {
    /// Runs an operation and notes how it went. Gives its result unless it is an error.
    fn note<T>(&mut self, what: &Path, operation: impl FnOnce() -> std::io::Result<T>) -> Option<T> {
        let begin = now();
        let result = operation();
        let end = now();
        self.operation_count += 1;
        if end - begin > SLOW_NANOS && self.slow.len() < SLOW_MAX {
            self.slow.push((begin, end));
        }
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.error_count += 1;
                self.tell(what, &error.to_string());
                None
            }
        }
    }

    fn wrong(&mut self, what: &Path, how: &str) {
        self.wrong_count += 1;
        self.tell(what, how);
    }

    fn tell(&mut self, what: &Path, how: &str) {
        if self.told.len() < TOLD_MAX {
            self.told.push(format!("{}: {how}", what.display()));
        }
    }

    /// How long a reader stood still in a time without a daemon: the longest that a call to the system took of those that
    /// were under way at its begin or began within it. Nothing if none took time worth telling.
    pub fn stall(&self, gap: &Range<u64>) -> u64 {
        let touched = self
            .slow
            .iter()
            .filter(|(begin, end)| *begin < gap.end && gap.start < *end);
        let lengths = touched.map(|(begin, end)| end - begin.max(&gap.start));
        lengths.max().unwrap_or(0)
    }
}

/// The time, the same in all processes: nanoseconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

/// Reads `root` in one way until standard input ends, and prints the report.
pub fn run(way: Way, root: &Path, truth: &Path) -> Result<()> {
    let is_over = Arc::new(AtomicBool::new(false));
    let watching = std::thread::spawn({
        let is_over = is_over.clone();
        move || {
            let ended = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            is_over.store(true, Ordering::Relaxed);
            ended
        }
    });
    let mut report = Report::default();
    way.read(root, truth, &mut report, &|| is_over.load(Ordering::Relaxed))?;
    watching
        .join()
        .map_err(|_| anyhow::anyhow!("the watcher of standard input failed"))?
        .context("read")?;
    serde_json::to_writer(std::io::stdout(), &report).context("print the report")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stalls_are_those_of_the_gap() {
        let report = Report {
            slow: vec![(0, 5), (8, 30), (12, 40), (19, 60), (20, 90)],
            ..Report::default()
        };
        assert_eq!(report.stall(&(10..20)), 41);
        assert_eq!(report.stall(&(10..19)), 28);
        assert_eq!(report.stall(&(5..8)), 0);
    }
}
