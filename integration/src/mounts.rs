//! The mount table of this process: what lies under a folder, and how to get rid of it.

use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::mount::UnmountFlags;

/// Rounds of unmounting before giving up: each takes one layer of stacked mounts off every point.
const ROUNDS_MAX: usize = 16;

/// Mount points at or under `dir`, innermost and newest first.
pub fn under(dir: &Path) -> Result<Vec<PathBuf>> {
    let table = std::fs::read("/proc/self/mountinfo").context("read the mount table")?;
    let mut points: Vec<PathBuf> = table
        .split(|byte| *byte == b'\n')
        .filter_map(mount_point)
        .filter(|point| point.starts_with(dir))
        .collect();
    points.reverse();
    Ok(points)
}

/// Unmounts everything at or under `dir`, lazily, so that neither open files nor a dead server can stop it.
pub fn unmount_under(dir: &Path) -> Result<()> {
    for _ in 0..ROUNDS_MAX {
        let points = under(dir)?;
        if points.is_empty() {
            return Ok(());
        }
        for point in points {
            // A point can go away with the one it stands on; the next round sees what is really left.
            let _ = rustix::mount::unmount(&point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        }
    }
    bail!("still mounted after {ROUNDS_MAX} rounds: {:?}", under(dir)?)
}

/// Field 5 of a line of `/proc/self/mountinfo`, with its octal escapes undone.
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    let field = line.split(|byte| *byte == b' ').nth(4)?;
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let escaped = match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                Some((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'))
            }
            _ => None,
        };
        match escaped {
            Some(byte) => {
                path.push(byte);
                rest = &rest[4..];
            }
            None => {
                path.push(*first);
                rest = tail;
            }
        }
    }
    Some(PathBuf::from(std::ffi::OsString::from_vec(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undoes_escapes() {
        let line = br"36 35 98:0 /m /mnt/with\040space\134and rw - ext3 /dev/root rw";
        assert_eq!(mount_point(line), Some(PathBuf::from(r"/mnt/with space\and")));
    }

    #[test]
    fn ignores_short_lines() {
        assert_eq!(mount_point(b""), None);
    }
}
