//! Damaged images: whatever is read of them is answered with data or an error.

use rafs::image::{Inode, check};
use rafs::{BlobIndex, FileType, Image};

use crate::fixture::Fixture;
use crate::model;
use crate::random::{Random, places};

/// Reads everything that an image offers, through every operation, whether or not it makes sense.
fn read_everything(image: &Image<Vec<u8>>) {
    let mut pending = vec![image.root()];
    // Loops and shared directories are followed only so far.
    let mut budget = 2000;
    while let Some(nid) = pending.pop() {
        let Ok(inode) = image.inode(nid) else { continue };
        read_inode(image, &inode);
        let Ok(entries) = image.entries_from(&inode, 0) else {
            continue;
        };
        for entry in entries.map_while(Result::ok) {
            budget -= 1;
            let _ = image.lookup(&inode, entry.name);
            let _ = image.entries_from(&inode, entry.next).map(|mut rest| rest.next());
            match image.inode(entry.nid) {
                Ok(child) if child.file_type != FileType::Directory => read_inode(image, &child),
                _ if budget > 0 && !matches!(entry.name, b"." | b"..") => pending.push(entry.nid),
                _ => {}
            }
        }
    }
    for nid in image.prefetch() {
        let _ = image.inode(nid);
    }
    for blob in 0..image.blobs().len() as u16 {
        image.chunks(BlobIndex(blob)).for_each(drop);
    }
    check(image.bytes()).unwrap();
}

fn read_inode(image: &Image<Vec<u8>>, inode: &Inode) {
    let _ = image.symlink(inode);
    let _ = image.lookup(inode, b"usr");
    let _ = image
        .entries_from(inode, u64::MAX)
        .map(|mut entries| entries.next());
    let _ = image.xattrs(inode).map(|xattrs| xattrs.for_each(drop));
    let _ = image.xattr(inode, b"user.color");
    let _ = image
        .extents(inode, 0..u64::MAX)
        .map(|extents| extents.take(1000).for_each(drop));
    let _ = image
        .extents(inode, u64::MAX - 1..u64::MAX)
        .map(|mut extents| extents.next());
}

/// Damages a bootstrap `times` times in one to four places, and reads what is left.
fn damage(bytes: &[u8], times: usize) {
    let places = places(bytes);
    let mut random = Random(1);
    let mut opened = 0;
    for round in 0..times {
        let mut bytes = bytes.to_vec();
        random.damage(&mut bytes, &places, 1 + round % 4);
        // What does not open has a fault, or is of another kind.
        let faults = check(&bytes);
        assert!(
            Image::open(&bytes).is_ok() || faults.is_err() || faults.is_ok_and(|faults| !faults.is_empty())
        );
        if let Ok(image) = Image::open(bytes) {
            opened += 1;
            read_everything(&image);
        }
    }
    assert!(
        opened > times / 10,
        "only {opened} damaged images open, so little was tried"
    );
}

#[test]
fn ten_thousand_damaged_images_of_ours() {
    let (tree, blobs) = model::sample();
    damage(&model::write(&tree, &blobs), 10_000);
}

#[test]
fn damaged_images_of_the_reference_builder() {
    damage(&Fixture::bootstrap("zstd-chunk64k"), 300);
}

#[test]
fn every_truncation_is_refused_in_one_line() {
    let bytes = Fixture::bootstrap("lz4-sha256");
    for len in (0..bytes.len()).step_by(509) {
        assert_ne!(check(&bytes[..len]), Ok(Vec::new()));
    }
}
