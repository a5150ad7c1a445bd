//! What readers pay no heed to is checked all the same: reserved bytes, unknown bits, the count of inodes, chunk formats.

use crate::damage::Sample;

#[test]
fn reserved_bytes_and_unknown_bits_are_told_with_their_place() {
    let sample = Sample::new();
    let (inode, chunks) = (sample.inode(&["-first1"]), sample.chunk_table());
    let blobs = sample.number(1152 + 8) as usize;
    let reserved = "reserved bytes are not 0 (damaged, or of a later version)";
    for (at, base, what) in [
        (1024 + 127, 1024, reserved.to_owned()),
        (1152 + 52, 1152, reserved.to_owned()),
        (1152 + 255, 1152, reserved.to_owned()),
        (1408 + 72, 1408, reserved.to_owned()),
        (blobs + 255, blobs, reserved.to_owned()),
        (inode + 6, inode, format!("/-first1: {reserved}")),
        (inode + 48, inode, format!("/-first1: {reserved}")),
        (
            1024 + 9,
            1024,
            "unknown features 0x1000 (damaged, or of a later version)".to_owned(),
        ),
        (
            1152 + 3,
            1152,
            "unknown flags 0x10000000 (damaged, or of a later version)".to_owned(),
        ),
        (
            chunks + 38,
            chunks,
            "a chunk has unknown flags 0x100000".to_owned(),
        ),
    ] {
        let mut sample = Sample::new();
        let changed = sample.bytes[at] ^ 0x10;
        sample.put(at, &[changed]);
        assert_eq!(sample.fault(), format!("byte {base}: {what}"));
    }
}

#[test]
fn the_count_of_inodes_may_count_hard_links_once_or_each_time() {
    let mut sample = Sample::new();
    let counted = sample.number(1024 + 16);
    let names = u32::try_from(sample.names()).unwrap();
    assert!(names > counted, "the sample has hard links");
    sample.put(1024 + 16, &names.to_le_bytes());
    assert_eq!(sample.faults(), []);
    sample.put(1024 + 16, &(names + 1).to_le_bytes());
    let what = format!(
        "the superblock counts {} inodes, but there are {counted}",
        names + 1
    );
    assert_eq!(sample.fault(), format!("byte 1040: {what}"));
}

#[test]
fn a_chunk_format_that_leads_the_kernel_elsewhere() {
    let mut sample = Sample::new();
    let at = sample.inode(&["-first1"]);
    // Readers of RAFS read the file all the same; the kernel would take what follows its first chunk in the blob.
    sample.put(at + 16, &[0x22]);
    let what = "the chunk format leads the kernel to other chunks than the indexes name";
    assert_eq!(sample.fault(), format!("byte {at}: /-first1: {what}"));
}
