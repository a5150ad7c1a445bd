//! Content of two regular files of the same size, byte by byte: stronger than digests, and it says where they part.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes compared at once.
const BLOCK_LEN: usize = 1 << 20;

/// Says how the contents differ, if they do.
pub(super) fn difference(expected: &Path, actual: &Path) -> Option<String> {
    let open = |path: &Path| File::open(path).map_err(|error| format!("cannot be opened: {error}"));
    let (mut left, mut right) = match (open(expected), open(actual)) {
        (Ok(left), Ok(right)) => (left, right),
        (Err(error), _) => return Some(format!("expected file {error}")),
        (_, Err(error)) => return Some(error),
    };
    let (mut left_block, mut right_block) = (vec![0; BLOCK_LEN], vec![0; BLOCK_LEN]);
    let mut offset = 0;
    loop {
        let left_len = match fill(&mut left, &mut left_block) {
            Ok(len) => len,
            Err(error) => return Some(format!("expected file cannot be read at {offset}: {error}")),
        };
        let right_len = match fill(&mut right, &mut right_block) {
            Ok(len) => len,
            Err(error) => return Some(format!("cannot be read at {offset}: {error}")),
        };
        if left_block[..left_len] != right_block[..right_len] {
            let pairs = left_block[..left_len].iter().zip(&right_block[..right_len]);
            let same = pairs.take_while(|(left, right)| left == right).count();
            return Some(format!("content differs from byte {} on", offset + same as u64));
        }
        if left_len == 0 {
            return None;
        }
        offset += left_len as u64;
    }
}

/// Reads until the block is full or the file ends, because pieces of the two files need not come alike.
fn fill(file: &mut File, block: &mut [u8]) -> std::io::Result<usize> {
    let mut len = 0;
    while len < block.len() {
        match file.read(&mut block[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}
