//! Listing a directory as `ls -l` does.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use bytes::Bytes;
use rafs::tree::FileType;
use rafs::{Image, Inode, Timestamp};

use crate::CleanPath;
use crate::error::Error;
use crate::unpack::device;
use crate::walk::children;

/// One line. `Display` prints mode, links, owner, size or device, time, name and a link's target.
#[derive(Clone, Debug)]
pub struct Line {
    name: Vec<u8>,
    target: Option<Vec<u8>>,
    inode: Inode,
}

/// Lists the directory at `path`, or the file that is there. Symbolic links are not followed.
pub fn list(image: &Image<Bytes>, path: &OsStr) -> Result<Vec<Line>, Error> {
    let corrupt = |source| Error::Bootstrap {
        place: path.to_string_lossy().into_owned(),
        source,
    };
    let inode = find(image, path)?;
    if inode.file_type != FileType::Directory {
        let name = CleanPath::clean(path.as_bytes()).as_bytes().to_vec();
        return Ok(vec![line(image, name, inode).map_err(corrupt)?]);
    }
    let children = children(image, &inode).map_err(corrupt)?;
    let lines = children
        .into_iter()
        .map(|(name, nid)| line(image, name, image.inode(nid)?));
    lines.collect::<Result<_, _>>().map_err(corrupt)
}

/// Finds the inode at `path`. Symbolic links are not followed.
pub(crate) fn find(image: &Image<Bytes>, path: &OsStr) -> Result<Inode, Error> {
    let shown = path.to_string_lossy().into_owned();
    let corrupt = |source| Error::Bootstrap {
        place: shown.clone(),
        source,
    };
    let missing = |reason| Error::Path {
        path: shown.clone(),
        reason,
    };
    let mut inode = image.inode(image.root()).map_err(corrupt)?;
    let path = CleanPath::clean(path.as_bytes());
    for name in path.components() {
        if inode.file_type != FileType::Directory {
            return Err(missing("a parent is not a directory"));
        }
        let entry = image.lookup(&inode, name).map_err(corrupt)?;
        let entry = entry.ok_or_else(|| missing("not in the image"))?;
        inode = image.inode(entry.nid).map_err(corrupt)?;
    }
    Ok(inode)
}

fn line(image: &Image<Bytes>, name: Vec<u8>, inode: Inode) -> Result<Line, rafs::Error> {
    let target = match inode.file_type {
        FileType::Symlink => Some(image.symlink(&inode)?.to_vec()),
        _ => None,
    };
    Ok(Line { name, target, inode })
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inode = &self.inode;
        let size = match inode.file_type {
            FileType::CharDevice | FileType::BlockDevice => {
                let (major, minor) = device(inode.rdev);
                format!("{major}, {minor}")
            }
            _ => inode.size.to_string(),
        };
        let (mode, nlink, uid, gid) = (mode(inode), inode.nlink, inode.uid, inode.gid);
        write!(
            f,
            "{mode} {nlink:>3} {uid:>5} {gid:>5} {size:>10} {} {}",
            utc(inode.mtime),
            printable(&self.name)
        )?;
        self.target
            .iter()
            .try_for_each(|target| write!(f, " -> {}", printable(target)))
    }
}

/// Text as it is, other bytes and control characters escaped, so that a name cannot take over a terminal.
fn printable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

fn mode(inode: &Inode) -> String {
    let kind = match inode.file_type {
        FileType::Regular => '-',
        FileType::Directory => 'd',
        FileType::Symlink => 'l',
        FileType::CharDevice => 'c',
        FileType::BlockDevice => 'b',
        FileType::Fifo => 'p',
        FileType::Socket => 's',
    };
    let bit = |bit: u16, letter| if inode.permissions & bit != 0 { letter } else { '-' };
    let execute = |bit: u16, special: u16, letters: [char; 2]| match (
        inode.permissions & bit != 0,
        inode.permissions & special != 0,
    ) {
        (true, true) => letters[0],
        (false, true) => letters[1],
        (true, false) => 'x',
        (false, false) => '-',
    };
    [
        kind,
        bit(0o400, 'r'),
        bit(0o200, 'w'),
        execute(0o100, 0o4000, ['s', 'S']),
        bit(0o040, 'r'),
        bit(0o020, 'w'),
        execute(0o010, 0o2000, ['s', 'S']),
        bit(0o004, 'r'),
        bit(0o002, 'w'),
        execute(0o001, 0o1000, ['t', 'T']),
    ]
    .into_iter()
    .collect()
}

/// `YYYY-MM-DD HH:MM:SS` in UTC, for any year. Days to dates by counting 400-year cycles from 1 March of year 0.
fn utc(time: Timestamp) -> String {
    const DAY: i64 = 86_400;
    const CYCLE_DAYS: i64 = 146_097;
    // From 0000-03-01 to 1970-01-01.
    const EPOCH_DAYS: i64 = 719_468;
    let (days, second) = (time.secs.div_euclid(DAY) + EPOCH_DAYS, time.secs.rem_euclid(DAY));
    let (cycle, day) = (days.div_euclid(CYCLE_DAYS), days.rem_euclid(CYCLE_DAYS));
    let year_of_cycle = (day - day / 1460 + day / 36_524 - day / (CYCLE_DAYS - 1)) / 365;
    let day_of_year = day - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = cycle * 400 + year_of_cycle + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day_of_month:02} {hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_any_year() {
        for (secs, text) in [
            (0, "1970-01-01 00:00:00"),
            (-1, "1969-12-31 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_709_251_199, "2024-02-29 23:59:59"),
            (4_107_542_400, "2100-03-01 00:00:00"),
            (-62_135_596_800, "0001-01-01 00:00:00"),
        ] {
            assert_eq!(utc(Timestamp { secs, nanos: 0 }), text);
        }
        // Far from the calendar, but no panic.
        utc(Timestamp {
            secs: i64::MAX,
            nanos: 0,
        });
        utc(Timestamp {
            secs: i64::MIN,
            nanos: 0,
        });
    }

    #[test]
    fn names_do_not_reach_the_terminal_raw() {
        assert_eq!(printable("grün".as_bytes()), "grün");
        assert_eq!(printable(b"\x1b[31m"), "\\x1b[31m");
        assert_eq!(printable(b"\xff"), "\\xff");
    }
}
