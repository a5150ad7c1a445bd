//! Damaged chunk infos and tables of contents: whatever is read of them is answered with data or an error.

use rafs::BlobIndex;
use rafs::blob::{Toc, Units};
use rafs::image::Blob;

use crate::fixture::Fixture;
use crate::random::{Random, places};

/// Asks for every chunk of a blob, and expands the first unit that lies in the file. Returns whether the chunk infos
/// were accepted.
fn read_units(fixture: &Fixture, blob: &Blob, number: u16, stored: &[u8]) -> bool {
    let Ok(units) = Units::read(blob, stored) else {
        return false;
    };
    let data = fixture.data(blob);
    let mut is_expanded = false;
    for chunk in fixture.image.chunks(BlobIndex(number)).map(Result::unwrap) {
        let Ok(piece) = units.piece(&chunk) else { continue };
        let start = piece.unit.stored.offset as usize;
        let end = start + piece.unit.stored.len as usize;
        assert!(end as u64 <= blob.compressed_size && piece.unit.len <= 32 << 20);
        let stored = data.get(start..end).filter(|_| !is_expanded);
        if let Some(stored) = stored {
            let mut out = vec![0; piece.unit.len as usize];
            let _ = units.expand(&piece.unit, stored, &mut out);
            assert_eq!(piece.cut(&out).unwrap().len(), chunk.uncompressed.len as usize);
            is_expanded = true;
        }
    }
    true
}

/// Damages the chunk infos of a fixture's blobs, stored without compression so that damage reaches them.
fn damage_infos(name: &str, times: usize) {
    let fixture = Fixture::open(name);
    let mut random = Random(2);
    let mut opened = 0;
    for (number, blob) in (0..).zip(fixture.image.blobs()) {
        let (blob, stored) = fixture.plain_meta(blob);
        assert!(read_units(&fixture, &blob, number, &stored));
        let places = places(&stored);
        for round in 0..times {
            let mut stored = stored.clone();
            random.damage(&mut stored, &places, 1 + round % 4);
            opened += usize::from(read_units(&fixture, &blob, number, &stored));
        }
    }
    assert!(opened > times, "only {opened} open, so little was tried");
}

#[test]
fn damaged_batches() {
    damage_infos("zstd-batch", 1000);
}

#[test]
fn damaged_gzip_contexts() {
    damage_infos("zran", 1000);
}

#[test]
fn damaged_single_chunks() {
    damage_infos("zstd-blake3", 300);
}

#[test]
fn a_table_of_contents_with_any_byte_changed_is_refused_or_another() {
    let fixture = Fixture::open("zstd-batch");
    let blob = &fixture.image.blobs()[0];
    let file = fixture.data(blob);
    let tail = &file[file.len() - 1152..];
    let good = Toc::read(tail, file.len() as u64).unwrap();
    for at in 0..tail.len() {
        let mut tail = tail.to_vec();
        tail[at] ^= 0x55;
        if let Ok(toc) = Toc::read(&tail, file.len() as u64) {
            assert_ne!(toc.digest, good.digest);
            assert!(
                toc.sections()
                    .iter()
                    .all(|section| section.range.end <= file.len() as u64)
            );
        }
    }
    assert!(Toc::read(&tail[..100], file.len() as u64).is_err());
    assert!(Toc::read(&[], 0).is_err());
}

#[test]
fn chunk_infos_of_another_blob_are_refused() {
    let fixture = Fixture::open("zstd-batch");
    let [one, other] = fixture.image.blobs() else {
        panic!("two blobs")
    };
    let (_, stored) = fixture.plain_meta(other);
    let error = Units::read(one, &stored).unwrap_err();
    assert!(error.to_string().contains("blob table"), "{error}");
}
