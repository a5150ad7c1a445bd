//! Waiting for facts: a bounded poll with back-off instead of sleeps of a guessed length.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// First pause between two looks.
const PAUSE_MIN: Duration = Duration::from_millis(2);
/// Longest pause: short enough that nobody notices, long enough not to burn a core.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Looks until `look` finds something, and fails when `deadline` has passed. `what` completes "waited for ...".
pub fn until<T>(deadline: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let started = Instant::now();
    let mut pause = PAUSE_MIN;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if started.elapsed() >= deadline {
            bail!("waited {deadline:?} in vain for {what}");
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_appears_later() {
        let mut looks = 0;
        let found = until(Duration::from_secs(10), "the third look", || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(found.unwrap(), 3);
    }

    #[test]
    fn gives_up_and_says_on_what() {
        let error = until(Duration::ZERO, "godot", || None::<()>).unwrap_err();
        assert!(error.to_string().contains("godot"));
    }
}
