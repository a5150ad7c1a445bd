//! The dump of a bootstrap tells every byte.

use rafs::Image;
use rafs::image::dump;
use sha2::{Digest as _, Sha256};

use crate::fixture::Fixture;
use crate::model;
use crate::random::Random;

fn text(bytes: &[u8]) -> String {
    let mut text = String::new();
    dump(bytes, &mut text).unwrap();
    text
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(text(bytes)).into()
}

/// Positions to change: those of the superblocks and of the tables up to `table_len` bytes, and samples of everything.
fn positions(bytes: &[u8], table_len: usize, samples: usize) -> Vec<usize> {
    let mut random = Random(7);
    let sampled = (0..samples).map(|_| random.below(bytes.len()));
    let image = Image::open(bytes).unwrap();
    let tables = (image.tables().into_iter())
        .flat_map(|(_, table)| (table.start as usize..table.end as usize).take(table_len));
    (1024..1408).chain(tables).chain(sampled).collect()
}

fn assert_injective(mut bytes: Vec<u8>, table_len: usize, samples: usize) {
    let before = hash(&bytes);
    let mut random = Random(9);
    for at in positions(&bytes, table_len, samples) {
        let old = bytes[at];
        bytes[at] ^= 1 << random.below(8);
        assert_ne!(hash(&bytes), before, "byte {at}");
        bytes[at] = old;
    }
    assert_eq!(hash(&bytes), before);
}

#[test]
fn every_changed_byte_of_ours_shows() {
    let (tree, blobs) = model::sample();
    assert_injective(model::write(&tree, &blobs), usize::MAX, 3000);
}

#[test]
fn every_changed_byte_of_the_reference_builder_shows() {
    assert_injective(Fixture::bootstrap("zstd-blake3"), 300, 300);
}

#[test]
fn nothing_of_the_reference_builder_is_unknown() {
    for name in [
        "lz4-sha256",
        "none-sha256",
        "zran",
        "zstd-batch",
        "zstd-blake3",
        "zstd-chunk64k",
    ] {
        let text = text(&Fixture::bootstrap(name));
        let strange: Vec<_> = (text.lines())
            .filter(|line| line.starts_with('#') || line.contains(" bytes "))
            .collect();
        assert_eq!(strange, [""; 0], "{name}");
    }
}
