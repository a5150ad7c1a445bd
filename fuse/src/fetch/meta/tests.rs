use rafs::{Image, Tree};

use super::*;
use crate::fixture::{Builder, Reference, mode, noise};

/// A blob of this project's writer, with a table of contents.
fn own() -> (Blob, Vec<u8>) {
    let mut builder = Builder::new();
    builder.file(Tree::ROOT, "file", mode(0o644), &noise(50_000, 1));
    let fixture = builder.finish();
    let image = Image::open(std::fs::read(fixture.bootstrap()).unwrap()).unwrap();
    (image.blobs()[0].clone(), fixture.blob.to_vec())
}

fn fetch(request: &Request, file: &[u8]) -> Vec<u8> {
    file[request.range.start as usize..request.range.end as usize].to_vec()
}

#[test]
fn the_table_of_contents_proves_chunk_infos() {
    let (blob, file) = own();
    let request = Request::of(&blob).unwrap();
    assert_eq!(request.proof, Proof::Toc(blob.toc.digest));
    let fetched = fetch(&request, &file);
    let stored = request.open(&fetched).unwrap();
    let (_, range) = blob.meta_range();
    assert_eq!(stored, &file[range.start as usize..range.end as usize]);

    for at in (0..stored.len()).chain([fetched.len() - 600, fetched.len() - 1]) {
        let mut damaged = fetched.clone();
        damaged[at] ^= 1;
        assert!(request.open(&damaged).is_err(), "byte {at}");
    }
    assert!(matches!(
        request.open(&fetched[..stored.len() - 1]),
        Err(Error::Short { .. })
    ));
}

#[test]
fn the_name_of_a_separate_file_proves_it() {
    let reference = Reference::open("zran");
    let image = Image::open(reference.bootstrap()).unwrap();
    for blob in image.blobs() {
        let mut blob = blob.clone();
        // These images were merged without telling the files' lengths.
        assert_eq!(Request::of(&blob).unwrap().proof, Proof::None);
        let meta_blob = blob.meta_blob.as_mut().unwrap();
        let file = reference.blob(&meta_blob.id);
        meta_blob.size = file.len() as u64;
        let request = Request::of(&blob).unwrap();
        assert_eq!(
            (&request.range, &request.proof),
            (&(0..file.len() as u64), &Proof::Name)
        );
        request.open(file).unwrap();
        let mut damaged = file.to_vec();
        damaged[0] ^= 1;
        assert!(matches!(request.open(&damaged), Err(Error::MetaDigest)));
    }
}

#[test]
fn proofs_that_cannot_be_had_are_not_fetched() {
    let (mut blob, _) = own();
    let (_, range) = blob.meta_range();
    blob.compressed_size = range.end - 1;
    let request = Request::of(&blob).unwrap();
    assert_eq!((request.range, request.proof), (range.clone(), Proof::None));
    blob.compressed_size = range.start + FETCH_MAX + 1;
    let request = Request::of(&blob).unwrap();
    assert_eq!((request.range, request.proof), (range, Proof::None));
}

#[test]
fn absurd_lengths_are_refused_before_anything_is_fetched() {
    let (mut blob, _) = own();
    for len in [FETCH_MAX, u64::MAX - 1, u64::MAX] {
        blob.meta.compressed_size = len;
        let error = Request::of(&blob).unwrap_err();
        assert!(
            matches!(error, Error::Meta(MetaError::TooLarge { .. })),
            "{len}: {error}"
        );
    }
}
