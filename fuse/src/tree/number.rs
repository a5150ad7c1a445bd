//! Inode numbers: what they say without looking anything up.

use rafs::{BlobIndex, Nid};

/// Number of the root.
pub(crate) const ROOT: u64 = 1;

/// Number of the folder `images`.
pub(crate) const IMAGES: u64 = 2;

/// Number of the folder `blobs`.
pub(crate) const BLOBS: u64 = 3;

/// Bits of a number within its image.
const WITHIN_BITS: u32 = 40;

/// Set in the numbers of an image that are no inode's. An inode's number is its place in the bootstrap in units of
/// 32 bytes, and EROFS ends at 16 TiB, so it never has this bit.
const DEVICE: u64 = 1 << 39;

/// What a number of an image stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Within {
    /// An inode of its tree.
    Inode(Nid),
    /// The folder of its blobs.
    Devices,
    /// One of its blobs.
    Device(BlobIndex),
}

impl Within {
    /// The number it has in an image. `None` for an inode's number that cannot be one.
    pub(super) fn number(self, image: u32) -> Option<u64> {
        let within = match self {
            Within::Inode(nid) if nid.0 < DEVICE => nid.0,
            Within::Inode(_) => return None,
            Within::Devices => DEVICE,
            Within::Device(blob) => DEVICE + 1 + u64::from(blob.0),
        };
        Some(u64::from(image) << WITHIN_BITS | within)
    }

    /// What a number stands for. `None` where it can be nothing.
    pub(super) fn of(ino: u64) -> Option<Self> {
        let within = ino & ((1 << WITHIN_BITS) - 1);
        match within.checked_sub(DEVICE) {
            None => Some(Within::Inode(Nid(within))),
            Some(0) => Some(Within::Devices),
            Some(place) => u16::try_from(place - 1)
                .ok()
                .map(|blob| Within::Device(BlobIndex(blob))),
        }
    }
}

/// The image that a number belongs to.
pub(super) fn image_of(ino: u64) -> Option<u32> {
    u32::try_from(ino >> WITHIN_BITS).ok().filter(|&id| id > 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_inode_has_the_number_of_a_device() {
        assert_eq!(Within::Inode(Nid(DEVICE)).number(3), None);
        assert_eq!(
            Within::Inode(Nid(DEVICE - 1)).number(3),
            Some(3 << 40 | (DEVICE - 1))
        );
        assert_eq!(Within::Devices.number(3), Some(3 << 40 | 1 << 39));
    }

    proptest! {
        #[test]
        fn numbers_say_what_they_were_made_of(
            image in 1..1_u32 << 23,
            within in prop_oneof![
                (0..DEVICE).prop_map(|nid| Within::Inode(Nid(nid))),
                Just(Within::Devices),
                any::<u16>().prop_map(|blob| Within::Device(BlobIndex(blob))),
            ],
        ) {
            let number = within.number(image).unwrap();
            prop_assert_eq!(image_of(number), Some(image));
            prop_assert_eq!(Within::of(number), Some(within));
        }
    }
}
