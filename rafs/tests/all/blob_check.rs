//! Blob files checked byte by byte: good ones have no fault, and whatever is damaged is told with its offset.

use rafs::blob::{BlobCheck, BlobFault, Subject, TOC_TAIL_MAX, Units};
use rafs::{BlobIndex, Compressor, Image};
use zerocopy::IntoBytes as _;

use crate::fixture::{Fixture, NAMES};
use crate::form::{FORM, Form, contents};

/// Checks a file, given in pieces of `step` bytes.
fn faults_in_steps(image: &Image<Vec<u8>>, number: u16, file: &[u8], step: usize) -> Vec<BlobFault> {
    let blob = &image.blobs()[usize::from(number)];
    let meta = blob.meta_range().1;
    let stored = file.get(meta.start as usize..meta.end as usize);
    let infos = stored.and_then(|stored| Units::read(blob, stored).ok());
    let subject = Subject {
        image,
        blob: BlobIndex(number),
        infos: infos.as_ref(),
    };
    let tail = &file[file.len().saturating_sub(TOC_TAIL_MAX as usize)..];
    let mut check = BlobCheck::new(subject, file.len() as u64, tail).unwrap();
    file.chunks(step).for_each(|piece| check.update(piece));
    check.finish()
}

fn faults(image: &Image<Vec<u8>>, number: u16, file: &[u8]) -> Vec<String> {
    let found = faults_in_steps(image, number, file, 1 << 16);
    found.iter().map(ToString::to_string).collect()
}

/// An image of one blob and its file.
fn written(form: Form) -> (Image<Vec<u8>>, Vec<u8>) {
    let written = form.write(&contents());
    (Image::open(written.bootstrap).unwrap(), written.file)
}

const FLAT: Form = Form {
    compressor: Compressor::None,
    is_flat: true,
    ..FORM
};
const BATCHED: Form = Form {
    batch_size: 16 << 10,
    ..FORM
};

#[test]
fn files_of_the_reference_have_no_faults() {
    for name in NAMES {
        let fixture = Fixture::open(name);
        for (number, blob) in (0..).zip(fixture.image.blobs()) {
            let file = fixture.meta_file(blob);
            for step in [1 << 20, 4096, 511] {
                assert_eq!(
                    faults_in_steps(&fixture.image, number, &file, step),
                    [],
                    "{name} {number}"
                );
            }
        }
    }
}

#[test]
fn of_files_before_version_2_2_only_what_is_known_is_checked() {
    let fixture = Fixture::open("zstd-chunk64k");
    let mut bootstrap = fixture.image.bytes().to_vec();
    let table = fixture.image.tables()[1].1.start as usize;
    // Neither tar headers nor a table of contents, nor the mark of versions that have them.
    bootstrap[table + 87] = 0;
    let image = Image::open(bootstrap).unwrap();
    let blob = &image.blobs()[0];
    let mut file = fixture.meta_file(blob);
    let header = (blob.meta.offset + blob.meta.compressed_size) as usize;
    file[header + 7] = 0;
    assert_eq!(faults(&image, 0, &file), [""; 0]);
    file[header + 100] = 1;
    let found = faults(&image, 0, &file);
    assert!(
        found.len() == 1 && found[0].contains("reserved bytes"),
        "{found:?}"
    );
}

#[test]
fn our_files_have_no_faults() {
    for form in [FORM, FLAT, BATCHED] {
        for compressor in [Compressor::None, Compressor::Lz4Block, Compressor::Zstd] {
            for is_layer in [false, true] {
                let is_legal = match compressor {
                    Compressor::None => form.batch_size == 0,
                    _ => !form.is_flat,
                };
                let form = Form {
                    compressor,
                    is_layer,
                    ..form
                };
                if is_legal {
                    let (image, file) = written(form);
                    assert_eq!(faults(&image, 0, &file), [""; 0], "{form:?}");
                }
            }
        }
    }
}

#[test]
fn any_byte_that_is_changed_is_noticed() {
    for form in [
        Form {
            is_layer: true,
            ..FORM
        },
        Form {
            is_layer: true,
            ..BATCHED
        },
        FLAT,
    ] {
        let (image, file) = written(form);
        let data_end = image.blobs()[0].meta.offset as usize - 512;
        // Few of the chunks, most of the rest.
        let places = (0..data_end)
            .step_by(30_011)
            .chain((data_end..file.len()).step_by(29));
        for at in places {
            let mut file = file.clone();
            file[at] ^= 0x55;
            assert_ne!(faults(&image, 0, &file), [""; 0], "byte {at}, {form:?}");
        }
    }
}

#[test]
fn a_file_of_any_other_length_is_noticed() {
    let (image, file) = written(Form {
        is_layer: true,
        ..FORM
    });
    for len in (0..file.len())
        .step_by(4999)
        .chain([file.len() - 1, file.len() - 512])
    {
        let found = faults(&image, 0, &file[..len]);
        assert!(!found.is_empty(), "{len} bytes");
    }
    for more in [&b"x"[..], &[0; 512], &[0; 5000]] {
        let found = faults(&image, 0, &[&file, more].concat());
        assert!(
            found.iter().any(|fault| fault.contains("nothing accounts for"))
                && found
                    .iter()
                    .any(|fault| fault.contains("does not end with a table")),
            "{found:?}"
        );
    }
}

#[test]
fn all_faults_are_told_with_their_offsets() {
    let (image, mut file) = written(FORM);
    let blob = &image.blobs()[0];
    let (data_end, infos) = (blob.meta.offset - 512, blob.meta.offset);
    let header = infos + blob.meta.compressed_size;
    let digests = header + 4096 + 512;
    let toc = file.len() as u64 - 512 - 4 * 128;
    for at in [
        data_end + 130,
        header + 4,
        header + 100,
        digests + 32 * 3,
        digests + 32 * 5 + 7,
        toc + 128 + 24,
        toc + 2 * 128 + 56,
        toc + 3 * 128 + 100,
    ] {
        file[at as usize] ^= 1;
    }
    let found = faults(&image, 0, &file);
    for expected in [
        "byte 0: image.blob has another digest than the table of contents says".to_owned(),
        format!("byte {data_end}: there is no sound tar header of image.blob"),
        format!("byte {infos}: blob.meta has another digest than the table of contents says"),
        format!("byte {header}: blob.meta.header has another digest than the table of contents says"),
        format!(
            "byte {}: the header of the chunk infos has another features than the blob table",
            header + 4
        ),
        format!(
            "byte {}: reserved bytes in the header of the chunk infos are not zero",
            header + 100
        ),
        format!("byte {digests}: blob.digest has another digest than the table of contents says"),
        format!(
            "byte {}: chunk 3 has another digest in blob.digest than in the chunk table",
            digests + 96
        ),
        format!(
            "byte {}: chunk 5 has another digest in blob.digest than in the chunk table",
            digests + 160
        ),
        format!("byte {toc}: the table of contents is not the one of which the blob table has the digest"),
        format!("byte {}: blob.meta.header is listed at ", toc + 2 * 128),
        format!("byte {}: reserved bytes of an entry are not zero", toc + 3 * 128),
    ] {
        assert!(
            found.iter().any(|fault| fault.starts_with(&expected)),
            "{expected}\n{found:#?}"
        );
    }
    assert_eq!(found.len(), 12, "{found:#?}");
    let offset = |fault: &String| -> u64 { fault[5..fault.find(':').unwrap()].parse().unwrap() };
    assert!(found.is_sorted_by_key(offset), "{found:#?}");
}

#[test]
fn padding_of_flat_files_is_zero() {
    let (image, mut file) = written(FLAT);
    let chunks: Vec<_> = image.chunks(BlobIndex(0)).map(Result::unwrap).collect();
    let padded = chunks
        .iter()
        .filter(|chunk| (1..4000).contains(&(chunk.uncompressed.len % 4096)))
        .map(|chunk| chunk.compressed.offset + u64::from(chunk.uncompressed.len));
    let padded: Vec<u64> = padded.collect();
    for at in [padded[0], padded[2] + 1] {
        file[at as usize] = 1;
    }
    for step in [1, 4095, 1 << 20] {
        let found = faults_in_steps(&image, 0, &file, step);
        let dirty = found.iter().filter(|fault| fault.what.contains("padding"));
        let offsets: Vec<_> = dirty.map(|fault| fault.offset).collect();
        assert_eq!(offsets, [padded[0], padded[2] + 1]);
    }
}

#[test]
fn bytes_of_no_chunk_and_chunks_over_chunks_are_told() {
    // Chunk infos that are stored as they are can be changed.
    let (image, mut file) = written(Form {
        compressor: Compressor::None,
        ..FORM
    });
    let infos = image.blobs()[0].meta.offset as usize;
    let mut shift = |chunk: usize, by: i64| {
        let at = infos + 16 * chunk + 8;
        let mut word = [0; 8];
        word.copy_from_slice(&file[at..at + 8]);
        let word = i64::from_le_bytes(word) + by;
        file[at..at + 8].copy_from_slice(word.as_bytes());
    };
    shift(4, 10);
    let found = faults(&image, 0, &file);
    let chunk = |number| image.chunk(BlobIndex(0), number).unwrap().compressed;
    for expected in [
        format!("byte {}: 10 bytes that belong to no chunk", chunk(4).offset),
        format!("byte {}: chunk 5 overlaps the one before it", chunk(5).offset),
        format!("byte {}: chunk 4: corrupt blob metadata", chunk(4).offset),
    ] {
        assert!(
            found.iter().any(|fault| fault.starts_with(&expected)),
            "{expected}\n{found:#?}"
        );
    }
}
