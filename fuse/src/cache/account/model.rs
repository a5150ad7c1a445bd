//! The account under every order of events that a model checker comes across: `make model-check`.

use std::sync::Arc;

use super::*;

/// Schedules of each case.
const SCHEDULES: usize = 20_000;

/// What is given out together is never more than there is, and what was refused takes nothing.
#[test]
fn never_more_is_taken_than_there_is() {
    shuttle::check_random(
        || {
            let limits = CacheLimits {
                size_max: SizeMax::Bytes(10),
                free_min: 0,
            };
            let account = Arc::new(Account::new(limits, PathBuf::new()));
            account.measured(Measure {
                used: 0,
                free: 0,
                total: 0,
            });
            let takers: Vec<_> = [6, 5, 3, 2]
                .map(|len| {
                    let account = account.clone();
                    shuttle::thread::spawn(move || if account.take(len) { len } else { 0 })
                })
                .into();
            let taken: u64 = takers.into_iter().map(|taker| taker.join().unwrap()).sum();
            assert!(taken <= 10, "{taken} of 10 were taken");
            assert_eq!(account.room.load(Ordering::Relaxed), 10 - signed(taken));
        },
        SCHEDULES,
    );
}
