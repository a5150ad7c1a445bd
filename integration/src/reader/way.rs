//! The ways to read a tree.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Result};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::ptr::null_mut;

use rand::RngExt;
use rustix::fs::{Advice, fadvise};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::Report;

/// The file of the tree that is read at random.
pub const LARGE: &str = "large";
/// Unit of reads that go past the page cache.
const PAGE_LEN: usize = 4096;
/// Longest single read.
const READ_PAGES_MAX: usize = 32;
/// Bytes that are read at once from front to back, as `cat` does.
const PIECE_LEN: usize = 128 << 10;
/// Reads before a file is opened or mapped anew.
const READS_AN_OPENING: usize = 64;

/// A way to read a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Way {
    /// Random pieces of a large file, past the page cache; where the file system takes no direct reads, its pages are
    /// dropped before each.
    Direct,
    /// Random pieces of the same file, mapped after its pages were dropped.
    Mapped,
    /// All files, byte by byte, dropped after they were read.
    Walk,
    /// All directories and attributes.
    Look,
}

impl Way {
    /// All ways.
    pub const ALL: [Way; 4] = [Way::Direct, Way::Mapped, Way::Walk, Way::Look];

    /// Its name on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Way::Direct => "direct",
            Way::Mapped => "mapped",
            Way::Walk => "walk",
            Way::Look => "look",
        }
    }

    /// Reads everything once, and again until it is over. Errors are those of reading the truth; others are in the report.
    pub(super) fn read(
        self,
        root: &Path,
        truth: &Path,
        report: &mut Report,
        is_over: &dyn Fn() -> bool,
    ) -> Result<()> {
        let content = std::fs::read(truth.join(LARGE))?;
        let large = root.join(LARGE);
        let mut is_first = true;
        while is_first || !is_over() {
            let is_over = || !is_first && is_over();
            match self {
                Way::Direct => direct(&large, &content, report),
                Way::Mapped => mapped(&large, &content, report),
                Way::Walk => walk(root, truth, report, &is_over)?,
                Way::Look => look(root, truth, report, &is_over)?,
            }
            is_first = false;
        }
        Ok(())
    }
}

/// A random piece of whole pages: where it begins and how long it is.
fn piece(len: usize) -> (usize, usize) {
    let mut random = rand::rng();
    let pages = len / PAGE_LEN;
    let first = random.random_range(0..pages);
    let count = random.random_range(1..=READ_PAGES_MAX.min(pages - first));
    (first * PAGE_LEN, count * PAGE_LEN)
}

fn direct(path: &Path, content: &[u8], report: &mut Report) {
    let open = || {
        let directly = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECT)
            .open(path);
        match directly {
            Err(error) if error.kind() == ErrorKind::InvalidInput => Ok((File::open(path)?, false)),
            opened => Ok((opened?, true)),
        }
    };
    let Some((file, is_direct)) = report.note(path, open) else {
        return;
    };
    let mut room = vec![0; (READ_PAGES_MAX + 1) * PAGE_LEN];
    let skip = room.as_ptr().align_offset(PAGE_LEN);
    for _ in 0..READS_AN_OPENING {
        let (begin, len) = piece(content.len());
        let buffer = &mut room[skip..skip + len];
        let read = report.note(path, || {
            if !is_direct {
                fadvise(&file, 0, None, Advice::DontNeed)?;
            }
            file.read_exact_at(buffer, begin as u64)
        });
        if read.is_some() && buffer != &content[begin..begin + len] {
            report.wrong(path, &format!("wrong bytes in {len} at {begin}"));
        }
    }
}

fn mapped(path: &Path, content: &[u8], report: &mut Report) {
    let open = || {
        let file = File::open(path)?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
        // SAFETY: a new mapping at a place of the kernel's choice touches no memory that is in use.
        let map = unsafe {
            mmap(
                null_mut(),
                content.len(),
                ProtFlags::READ,
                MapFlags::SHARED,
                &file,
                0,
            )
        };
        Ok(map?)
    };
    let Some(map) = report.note(path, open) else {
        return;
    };
    // SAFETY: the mapping is this long, stays until munmap below, and the file system is read-only.
    let bytes = unsafe { std::slice::from_raw_parts(map.cast::<u8>(), content.len()) };
    for _ in 0..READS_AN_OPENING {
        let (begin, len) = piece(content.len());
        let is_same = report.note(path, || {
            Ok(bytes[begin..begin + len] == content[begin..begin + len])
        });
        if is_same == Some(false) {
            report.wrong(path, &format!("wrong bytes in {len} at {begin}, mapped"));
        }
    }
    // SAFETY: the slice is not used any more.
    let _ = unsafe { munmap(map, content.len()) };
}

fn walk(root: &Path, truth: &Path, report: &mut Report, is_over: &dyn Fn() -> bool) -> Result<()> {
    for entry in truth.read_dir()? {
        if is_over() {
            return Ok(());
        }
        let entry = entry?;
        let path = root.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            walk(&path, &entry.path(), report, is_over)?;
            continue;
        }
        if let Some(content) = read_whole(&path, report)
            && content != std::fs::read(entry.path())?
        {
            report.wrong(&path, "another content");
        }
    }
    Ok(())
}

/// Reads a file from front to back and drops its pages. Each call to the system is an operation of its own: how long one
/// of them takes is how long a program stands still, while a whole large file takes its time in any case.
fn read_whole(path: &Path, report: &mut Report) -> Option<Vec<u8>> {
    let mut file = report.note(path, || File::open(path))?;
    let (mut content, mut piece) = (Vec::new(), vec![0; PIECE_LEN]);
    loop {
        match report.note(path, || file.read(&mut piece))? {
            0 => break,
            len => content.extend_from_slice(&piece[..len]),
        }
    }
    report.note(path, || Ok(fadvise(&file, 0, None, Advice::DontNeed)?))?;
    Some(content)
}

fn look(root: &Path, truth: &Path, report: &mut Report, is_over: &dyn Fn() -> bool) -> Result<()> {
    let wanted = names(truth)?;
    let found = report.note(root, || names(root));
    if found.is_some_and(|found| found != wanted) {
        report.wrong(root, "another listing");
    }
    for name in wanted {
        if is_over() {
            return Ok(());
        }
        let (path, truth) = (root.join(&name), truth.join(&name));
        let wanted = truth.symlink_metadata()?;
        let Some(found) = report.note(&path, || path.symlink_metadata()) else {
            continue;
        };
        let facts = |meta: &std::fs::Metadata| (meta.mode(), if meta.is_dir() { 0 } else { meta.len() });
        if facts(&found) != facts(&wanted) {
            report.wrong(&path, "other attributes");
        }
        if wanted.is_dir() {
            look(&path, &truth, report, is_over)?;
        }
    }
    Ok(())
}

fn names(dir: &Path) -> Result<BTreeSet<OsString>> {
    dir.read_dir()?.map(|entry| Ok(entry?.file_name())).collect()
}
