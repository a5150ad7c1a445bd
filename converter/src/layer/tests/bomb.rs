//! Layers of a few kilobytes that unpack to hundreds of megabytes: they are read piece by piece, whatever their length.

use std::io::{self, Read};

use super::*;
use crate::decompress::Decoder;
use crate::pipe::HashReader;

/// Bytes that the bombs unpack to.
const LEN: u64 = 512 << 20;
/// What reading them may cost, other tests beside these included.
const MEMORY_MAX: u64 = 256 << 20;

/// Most memory that this process ever had, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10
}

fn gzip(mut content: impl Read) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    io::copy(&mut content, &mut encoder).unwrap();
    encoder.finish().unwrap()
}

/// Zeros in runs of 128 KiB, without a word on their length, in a window of 2 to the power of `window` bytes.
fn zstd_zeros(window: u8) -> Vec<u8> {
    let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0x00, (window - 10) << 3];
    let runs = LEN >> 17;
    for run in 1..=runs {
        let header = (128 << 10) << 3 | 1 << 1 | u32::from(run == runs);
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

/// Reads a layer to its end, and returns how many chunks and bytes of archive there were.
fn read_all(stored: &[u8]) -> Result<(usize, u64), LayerError> {
    let mut reader = Reader::new(HashReader::new(Decoder::new(stored)?));
    let mut chunk_count = 0;
    read(&mut reader, 1 << 20, &Budget::default(), |cut| {
        assert!(cut.content.len() <= 1 << 20);
        chunk_count += 1;
        Ok(())
    })?;
    let (len, _) = reader.into_inner().finish().map_err(LayerError::Decompress)?;
    Ok((chunk_count, len))
}

#[test]
fn a_file_of_zeros_is_cut_as_it_comes() {
    let file = Archive::default().add(b"zeros", tar::EntryType::Regular, |header| header.set_size(LEN));
    let stored = gzip(file.0.chain(io::repeat(0).take(LEN)));
    assert!(stored.len() < 16 << 20);
    let before = peak();
    assert_eq!(read_all(&stored).unwrap(), (512, LEN + 512));
    assert!(peak() - before < MEMORY_MAX, "{} bytes more", peak() - before);
}

#[test]
fn zeros_behind_the_archives_end_are_not_kept() {
    let before = peak();
    assert_eq!(read_all(&zstd_zeros(17)).unwrap(), (0, LEN));
    assert!(peak() - before < MEMORY_MAX, "{} bytes more", peak() - before);
}

#[test]
fn a_window_of_gigabytes_is_refused() {
    let before = peak();
    assert!(read_all(&zstd_zeros(31)).is_err());
    assert!(peak() - before < MEMORY_MAX, "{} bytes more", peak() - before);
}
