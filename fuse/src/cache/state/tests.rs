use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::BlobId;
use super::*;

fn shape(chunk_count: u32) -> Shape {
    Shape {
        id: BlobId::parse(&"ab".repeat(32)).unwrap(),
        chunk_count,
        uncompressed_size: 1 << 30,
        digester: Digester::Sha256,
    }
}

fn entry(seed: u8) -> Entry {
    Entry {
        digest: Digest([seed.max(1); 32]),
        place: Span {
            offset: u64::from(seed) << 12,
            len: u32::from(seed) + 1,
        },
    }
}

fn created(shape: &Shape) -> File {
    let file = tempfile::tempfile().unwrap();
    create(&file, shape).unwrap();
    file
}

#[test]
fn a_new_file_remembers_nothing() {
    let shape = shape(7);
    assert_eq!(load(&created(&shape), &shape).unwrap(), Some(vec![]));
}

#[test]
fn an_entry_is_taken_back() {
    let shape = shape(7);
    let file = created(&shape);
    record(&file, 3, Some(&entry(9))).unwrap();
    record(&file, 3, None).unwrap();
    assert_eq!(load(&file, &shape).unwrap(), Some(vec![]));
}

#[test]
fn a_file_about_something_else_is_not_read() {
    let ours = shape(7);
    let others = [
        Shape {
            id: BlobId::parse(&"cd".repeat(32)).unwrap(),
            ..ours.clone()
        },
        Shape {
            uncompressed_size: 4096,
            ..ours.clone()
        },
        Shape {
            digester: Digester::Blake3,
            ..ours.clone()
        },
        shape(8),
    ];
    let file = created(&ours);
    for other in others {
        assert_eq!(load(&file, &other).unwrap(), None, "{other:?}");
    }
}

#[test]
fn truncated_and_foreign_files_are_not_read() {
    let shape = shape(7);
    for len in [
        0,
        1,
        63,
        64,
        4095,
        4096,
        file_len(&shape) - 1,
        file_len(&shape) + 1,
    ] {
        let file = created(&shape);
        file.set_len(len).unwrap();
        assert_eq!(load(&file, &shape).unwrap(), None, "length {len}");
    }
    for byte in 0..size_of::<Header>() as u64 {
        let file = created(&shape);
        let mut one = [0];
        file.read_exact_at(&mut one, byte).unwrap();
        file.write_all_at(&[one[0] ^ 0x40], byte).unwrap();
        assert_eq!(load(&file, &shape).unwrap(), None, "byte {byte}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn what_is_recorded_is_loaded(
        count in 1_u32..200_000,
        picks in proptest::collection::vec((any::<u32>(), 1_u8..), 0..40),
    ) {
        let shape = shape(count);
        let file = created(&shape);
        let mut expected = BTreeMap::new();
        for (index, seed) in picks {
            record(&file, index % count, Some(&entry(seed))).unwrap();
            expected.insert(index % count, entry(seed));
        }
        let loaded = load(&file, &shape).unwrap().unwrap();
        prop_assert_eq!(loaded, expected.into_iter().collect::<Vec<_>>());
    }
}
