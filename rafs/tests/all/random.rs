//! Damage: the same on every run.

/// A small generator of numbers (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// Changes `count` bytes in some of `places`.
    pub(crate) fn damage(&mut self, bytes: &mut [u8], places: &[usize], count: usize) {
        for _ in 0..count {
            let at = places[self.below(places.len())];
            bytes[at] = match self.below(4) {
                0 => 0,
                1 => 0xFF,
                2 => bytes[at] ^ 1 << self.below(8),
                _ => self.next() as u8,
            };
        }
    }
}

/// Where damage is worth while: most of a small file is zeros between sections, so bytes that are something, and
/// those right behind them.
pub(crate) fn places(bytes: &[u8]) -> Vec<usize> {
    (0..bytes.len())
        .filter(|&at| bytes[at.saturating_sub(8)..=at].iter().any(|&byte| byte != 0))
        .collect()
}
