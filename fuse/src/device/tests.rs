use proptest::prelude::*;

use super::*;
use crate::fixture::{Builder, CHUNK_LEN, Fixture, mode, noise};

/// Files of these lengths, one after the other in a blob.
fn image(lens: &[usize]) -> (Fixture, Image<Vec<u8>>) {
    let mut builder = Builder::new();
    for (seed, &len) in lens.iter().enumerate() {
        let content = noise(len, seed as u64);
        builder.file(rafs::Tree::ROOT, format!("{seed}"), mode(0o644), &content);
    }
    let fixture = builder.finish();
    let image = Image::open(std::fs::read(fixture.bootstrap()).unwrap()).unwrap();
    (fixture, image)
}

#[test]
fn chunks_in_order_cost_no_memory() {
    let (_fixture, image) = image(&[3 * CHUNK_LEN, 10]);
    let device = Device::new(&image, BlobIndex(0)).unwrap();
    assert!(device.is_whole());
    assert_eq!(device.len(), 4 * CHUNK_LEN as u64);
}

#[test]
fn an_unknown_blob_is_an_empty_device() {
    let (_fixture, image) = image(&[10]);
    let device = Device::new(&image, BlobIndex(9)).unwrap();
    assert_eq!((device.len(), device.runs(&image, 0..100).unwrap().len()), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn runs_cover_a_range_with_the_chunks_that_lie_there(
        lens in prop::collection::vec(1..3 * CHUNK_LEN, 1..6),
        start in 0..20 * CHUNK_LEN as u64,
        len in 0..10 * CHUNK_LEN as u64,
        is_sorted in any::<bool>(),
    ) {
        let (_fixture, image) = image(&lens);
        let mut device = Device::new(&image, BlobIndex(0)).unwrap();
        if is_sorted {
            device.order = Order::Sorted((0..device.count() as u32).collect());
        }
        let runs = device.runs(&image, start..start + len).unwrap();
        let end = (start + len).min(device.len());
        let mut at = start.min(end);
        for run in &runs {
            prop_assert!(run.len() > 0);
            let here = at..at + u64::from(run.len());
            match run {
                Run::Chunk(extent) => {
                    let place = extent.chunk.uncompressed;
                    prop_assert_eq!(place.offset + u64::from(extent.skip), here.start);
                    prop_assert!(extent.skip + extent.len <= place.len);
                }
                Run::Zeros(_) => {
                    for chunk in image.chunks(BlobIndex(0)) {
                        let place = chunk.unwrap().uncompressed;
                        let is_apart = place.offset + u64::from(place.len) <= here.start || place.offset >= here.end;
                        prop_assert!(is_apart);
                    }
                }
            }
            at = here.end;
        }
        prop_assert_eq!(at, end.max(start.min(end)));
    }
}
