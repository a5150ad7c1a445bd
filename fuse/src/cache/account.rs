//! How much the cache may hold: limits, what is left of them, and what became of what did not fit.
//!
//! What is left is known exactly when the disk was asked, and counted down by every chunk that is stored, so that the
//! limits hold without asking the disk each time.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

use crate::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Most room that is kept by evicting. Beyond it more room only costs what is fetched again.
const GAP_MAX: u64 = 1 << 30;

/// Room that is kept, as a part of the limit.
const GAP_SHARE: u64 = 32;

/// How many gaps of room filling leaves: evicting makes two, so filling never fills what was evicted for others.
const FILL_GAPS: i64 = 3;

/// Share of the limit up to which images are mounted right on the cache's files, which cannot be evicted then.
const PINNED_SHARE: (u64, u64) = (3, 4);

/// Limits of the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheLimits {
    /// Most that the cache holds.
    pub size_max: SizeMax,
    /// Bytes of the file system that the cache leaves free.
    pub free_min: u64,
}

/// Most that the cache holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SizeMax {
    /// As much as the disk.
    #[default]
    Unlimited,
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of its file system.
    Percent(u8),
}

/// The state of the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatus {
    /// Bytes on disk when they were last counted, as `du` counts.
    pub bytes_used: u64,
    /// Most bytes that it may hold; `u64::MAX` if that is not limited.
    pub bytes_max: u64,
    /// Bytes that were free on its file system at the same time.
    pub bytes_free: u64,
    /// Bytes that were evicted since the start.
    pub bytes_evicted: u64,
    /// Bytes that were not kept since the start, for lack of room within the limits. They were served all the same.
    pub bytes_refused: u64,
    /// Chunks that the disk did not take since the start. They were served all the same.
    pub write_errors: u64,
}

/// What the disk said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Measure {
    /// Bytes of the cache.
    pub(super) used: u64,
    /// Bytes that are free.
    pub(super) free: u64,
    /// Bytes of the whole file system.
    pub(super) total: u64,
}

/// What is left of the limits.
pub(crate) struct Account {
    limits: CacheLimits,
    pub(super) dir: PathBuf,
    room: AtomicI64,
    /// Within the limit of size alone.
    used: AtomicU64,
    free: AtomicU64,
    size_max: AtomicU64,
    evicted: AtomicU64,
    refused: AtomicU64,
    write_errors: AtomicU64,
    /// The longest that was refused since there was as much room as is kept.
    wanted: AtomicU64,
    pressure: Notify,
}

impl Account {
    /// An account of the cache in `dir`. Until something is measured, there is room for everything.
    pub(super) fn new(limits: CacheLimits, dir: PathBuf) -> Self {
        Account {
            limits,
            dir,
            room: AtomicI64::new(i64::MAX),
            used: AtomicU64::new(0),
            free: AtomicU64::new(0),
            size_max: AtomicU64::new(u64::MAX),
            evicted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            write_errors: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
            pressure: Notify::new(),
        }
    }

    /// Takes room for so many bytes. `false`: there is none.
    pub(super) fn take(&self, len: u64) -> bool {
        let len = signed(len);
        let left = self.room.fetch_sub(len, Ordering::Relaxed).saturating_sub(len);
        if left < self.gap() {
            self.pressure.notify_one();
        }
        let is_taken = left >= 0;
        if !is_taken {
            self.room.fetch_add(len, Ordering::Relaxed);
            self.refused.fetch_add(len.unsigned_abs(), Ordering::Relaxed);
            self.wanted.fetch_max(len.unsigned_abs(), Ordering::Relaxed);
        }
        is_taken
    }

    /// Counts bytes that are written whether or not there is room.
    pub(super) fn spend(&self, len: u64) {
        self.room.fetch_sub(signed(len), Ordering::Relaxed);
    }

    /// Counts a chunk that the disk did not take.
    pub(super) fn note_write_error(&self) {
        self.write_errors.fetch_add(1, Ordering::Relaxed);
        self.pressure.notify_one();
    }

    /// Counts what was evicted.
    pub(super) fn note_evicted(&self, len: u64) {
        self.evicted.fetch_add(len, Ordering::Relaxed);
    }

    /// Takes over what the disk said, and tells how many bytes should go.
    pub(super) fn measured(&self, measure: Measure) -> u64 {
        let size_max = match self.limits.size_max {
            SizeMax::Unlimited => u64::MAX,
            SizeMax::Bytes(len) => len,
            SizeMax::Percent(share) => measure.total / 100 * u64::from(share),
        };
        self.size_max.store(size_max, Ordering::Relaxed);
        self.used.store(measure.used, Ordering::Relaxed);
        self.free.store(measure.free, Ordering::Relaxed);
        let within_size = signed(size_max).saturating_sub(signed(measure.used));
        let within_free = match self.limits.free_min {
            0 => i64::MAX,
            free_min => signed(measure.free).saturating_sub(signed(free_min)),
        };
        let room = within_size.min(within_free);
        self.room.store(room, Ordering::Relaxed);
        let gap = self.gap();
        // In a small cache a single chunk may be longer than the gap, and would never find room.
        let wanted = gap.max(signed(self.wanted.load(Ordering::Relaxed)));
        if room >= wanted {
            self.wanted.store(0, Ordering::Relaxed);
        }
        match room < wanted {
            true => gap.saturating_add(wanted).saturating_sub(room).unsigned_abs(),
            false => 0,
        }
    }

    /// Waits until there is little room.
    pub(crate) async fn pressed(&self) {
        self.pressure.notified().await;
    }

    /// Whether there is room that readers will hardly need.
    pub(crate) fn may_fill(&self) -> bool {
        self.room.load(Ordering::Relaxed) >= self.gap().saturating_mul(FILL_GAPS)
    }

    /// Whether data may be put where it cannot be evicted.
    pub(super) fn may_pin(&self) -> bool {
        let (size_max, used) = (
            self.size_max.load(Ordering::Relaxed),
            self.used.load(Ordering::Relaxed),
        );
        used <= size_max / PINNED_SHARE.1 * PINNED_SHARE.0
    }

    /// The numbers.
    pub(crate) fn status(&self) -> CacheStatus {
        let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
        CacheStatus {
            bytes_used: load(&self.used),
            bytes_max: load(&self.size_max),
            bytes_free: load(&self.free),
            bytes_evicted: load(&self.evicted),
            bytes_refused: load(&self.refused),
            write_errors: load(&self.write_errors),
        }
    }

    fn gap(&self) -> i64 {
        if self.limits == CacheLimits::default() {
            return 0;
        }
        signed((self.size_max.load(Ordering::Relaxed) / GAP_SHARE).min(GAP_MAX))
    }
}

/// The time, in seconds: what uses are stamped with. A clock that is put back makes old what is new, no more.
pub(crate) fn now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

fn signed(len: u64) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}

#[cfg(all(test, feature = "model"))]
mod model;

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn account(size_max: SizeMax, free_min: u64) -> Account {
        Account::new(CacheLimits { size_max, free_min }, PathBuf::new())
    }

    fn measure(used: u64, free: u64) -> Measure {
        let total = 1000 * MIB;
        Measure { used, free, total }
    }

    #[test]
    fn room_is_what_both_limits_leave() {
        let account = account(SizeMax::Bytes(320 * MIB), 100 * MIB);
        assert_eq!(account.measured(measure(0, 900 * MIB)), 0);
        assert!(account.may_fill() && account.may_pin());
        // The gap is 10 MiB; below it, room is made up to twice as much.
        assert_eq!(account.measured(measure(310 * MIB, 900 * MIB)), 0);
        assert!(!account.may_fill() && !account.may_pin());
        assert_eq!(account.measured(measure(311 * MIB, 900 * MIB)), 11 * MIB);
        assert_eq!(account.measured(measure(330 * MIB, 900 * MIB)), 30 * MIB);
        assert_eq!(account.measured(measure(1, 95 * MIB)), 25 * MIB);
    }

    #[test]
    fn what_is_taken_counts_until_there_is_none() {
        let account = account(SizeMax::Bytes(10), 0);
        account.measured(measure(0, 0));
        assert!(account.take(6) && account.take(4));
        assert!(!account.take(1), "a hard limit");
        assert_eq!(account.status().bytes_refused, 1);
        account.measured(measure(4, 0));
        assert!(account.take(6));
    }

    #[test]
    fn what_is_longer_than_the_gap_finds_room() {
        let account = account(SizeMax::Bytes(16 * MIB), 0);
        assert_eq!(account.measured(measure(15 * MIB, 0)), 0);
        assert!(!account.take(2 * MIB));
        // The gap is half a MiB.
        assert_eq!(account.measured(measure(15 * MIB, 0)), 3 * MIB / 2);
        assert_eq!(account.measured(measure(13 * MIB, 0)), 0);
        assert_eq!(account.measured(measure(15 * MIB, 0)), 0, "it had its room");
    }

    #[test]
    fn shares_are_of_the_file_system_and_nothing_limits_by_default() {
        let account = account(SizeMax::Percent(50), 0);
        assert_eq!(account.measured(measure(0, 0)), 0);
        assert_eq!(account.status().bytes_max, 500 * MIB);
        let unlimited = Account::new(CacheLimits::default(), PathBuf::new());
        assert_eq!(unlimited.measured(measure(u64::MAX >> 2, 0)), 0);
        assert!(unlimited.take(u64::MAX >> 2) && unlimited.may_fill());
    }
}
