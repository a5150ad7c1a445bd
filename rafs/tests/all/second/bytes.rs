//! Bytes of which the reader remembers what it looked at.

use std::cell::RefCell;

pub(crate) struct Bytes<'a> {
    bytes: &'a [u8],
    is_read: RefCell<Vec<bool>>,
}

impl<'a> Bytes<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let is_read = RefCell::new(vec![false; bytes.len()]);
        Bytes { bytes, is_read }
    }

    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(crate) fn get(&self, offset: u64, len: u64) -> &'a [u8] {
        let range = offset as usize..(offset + len) as usize;
        self.is_read.borrow_mut()[range.clone()].fill(true);
        &self.bytes[range]
    }

    /// What nothing refers to is filler.
    pub(crate) fn check_rest_is_zero(&self) {
        let is_read = self.is_read.borrow();
        let stray =
            (self.bytes.iter().zip(is_read.iter())).position(|(&byte, &is_read)| !is_read && byte != 0);
        assert_eq!(stray, None, "a byte that nothing refers to");
    }
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}
