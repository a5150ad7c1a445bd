//! Two trees, path by path: what a lazily mounted image shows against what an independent unpacker made of the original.
//!
//! Compared are type, permissions, owner, modification time to the nanosecond, size, device number, number of links,
//! which names share an inode, link targets, extended attributes of all namespaces, and content. Not compared: sizes of
//! directories and allocated blocks, which belong to the file system, not to the image.

mod content;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Differences listed before the rest is only counted.
const LISTED_MAX: usize = 50;

/// What may differ although it is compared.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    /// Directories whose modification time is not the image's: the root when no layer lists it, and parents that no
    /// layer lists. Paths relative to the trees' roots; the root itself is the empty path.
    pub mtimes: BTreeSet<PathBuf>,
    /// Whether no directory's modification time counts: umoci does not restore those that later layers touch.
    pub directory_mtimes: bool,
    /// Whether links of directories are not counted (some file systems, overlayfs among them, always say 1).
    pub directory_links: bool,
    /// Names of extended attributes that are not compared.
    pub xattrs: BTreeSet<&'static str>,
    /// Paths that are not looked at, with all below them.
    pub ignored: BTreeSet<PathBuf>,
}

/// What two trees disagree about. Empty: they are the same.
#[derive(Clone, Debug, Default)]
pub struct Differences {
    list: Vec<String>,
    /// Paths that were compared.
    pub path_count: u64,
}

impl Differences {
    /// Whether the trees are the same.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The differences, one line each.
    pub fn lines(&self) -> &[String] {
        &self.list
    }

    fn add(&mut self, path: &Path, what: impl fmt::Display) {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        self.list
            .push(format!("{}: {what}", path.as_os_str().as_bytes().escape_ascii()));
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} differences in {} paths", self.list.len(), self.path_count)?;
        self.list
            .iter()
            .take(LISTED_MAX)
            .try_for_each(|line| writeln!(f, "  {line}"))?;
        match self.list.len().checked_sub(LISTED_MAX) {
            Some(more) if more > 0 => writeln!(f, "  and {more} more"),
            _ => Ok(()),
        }
    }
}

/// Compares the tree at `actual` with the one at `expected`. Errors are failures to read either; where only one path
/// cannot be read that is a difference.
pub fn tree(expected: &Path, actual: &Path, allowed: &Allowed) -> Result<Differences> {
    let mut walk = Walk {
        roots: [expected, actual],
        allowed,
        twins: [HashMap::new(), HashMap::new()],
        found: Differences::default(),
    };
    for root in walk.roots {
        std::fs::symlink_metadata(root).with_context(|| format!("look at {}", root.display()))?;
    }
    walk.visit(Path::new(""));
    Ok(walk.found)
}

/// Panics with a readable list unless the trees are the same.
pub fn assert_same(expected: &Path, actual: &Path, allowed: &Allowed) {
    let found = tree(expected, actual, allowed).expect("both trees can be read");
    assert!(
        found.is_empty(),
        "{} (expected) and {} (actual) are not the same: {found}",
        expected.display(),
        actual.display()
    );
    assert!(found.path_count > 1, "the trees are empty, which proves nothing");
}

struct Walk<'a> {
    roots: [&'a Path; 2],
    allowed: &'a Allowed,
    /// For each side: inode number -> inode number of the same file on the other side.
    twins: [HashMap<u64, u64>; 2],
    found: Differences,
}

impl Walk<'_> {
    fn visit(&mut self, path: &Path) {
        if self.allowed.ignored.contains(path) {
            return;
        }
        self.found.path_count += 1;
        let [expected, actual] = self.roots.map(|root| root.join(path));
        let (left, right) = match (expected.symlink_metadata(), actual.symlink_metadata()) {
            (Ok(left), Ok(right)) => (left, right),
            (left, right) => {
                let error = left.err().or(right.err());
                self.found
                    .add(path, format_args!("cannot be looked at: {error:?}"));
                return;
            }
        };
        if kind(&left) != kind(&right) {
            self.found.add(
                path,
                format_args!("is {}, expected {}", kind(&right), kind(&left)),
            );
            return;
        }
        self.attributes(path, &left, &right);
        self.xattrs(path, &expected, &actual);
        if left.is_dir() {
            return self.directory(path, &expected, &actual);
        }
        if self.is_seen_twin(path, &left, &right) {
            return;
        }
        if left.is_symlink() {
            let targets = [&expected, &actual].map(|path| std::fs::read_link(path).ok());
            self.same(path, "target", &targets[0], &targets[1]);
        } else if left.is_file()
            && left.len() == right.len()
            && let Some(difference) = content::difference(&expected, &actual)
        {
            self.found.add(path, difference);
        }
    }

    fn attributes(&mut self, path: &Path, left: &Metadata, right: &Metadata) {
        let octal = |meta: &Metadata| format!("{:04o}", meta.mode() & 0o7777);
        self.same(path, "permissions", &octal(left), &octal(right));
        self.same(
            path,
            "owner",
            &(left.uid(), left.gid()),
            &(right.uid(), right.gid()),
        );
        let allowed = self.allowed.directory_mtimes && left.is_dir();
        if !allowed && !self.allowed.mtimes.contains(path) {
            let mtime = |meta: &Metadata| (meta.mtime(), meta.mtime_nsec());
            self.same(path, "mtime", &mtime(left), &mtime(right));
        }
        if !left.is_dir() {
            self.same(path, "size", &left.len(), &right.len());
            self.same(path, "device number", &left.rdev(), &right.rdev());
        }
        if !(left.is_dir() && self.allowed.directory_links) {
            self.same(path, "links", &left.nlink(), &right.nlink());
        }
    }

    /// Whether this inode was compared under another name; also checks that both sides group the names alike.
    fn is_seen_twin(&mut self, path: &Path, left: &Metadata, right: &Metadata) -> bool {
        if left.nlink() == 1 && right.nlink() == 1 {
            return false;
        }
        let inodes = [left.ino(), right.ino()];
        let known = [0, 1].map(|side| self.twins[side].get(&inodes[side]).copied());
        if known == [Some(inodes[1]), Some(inodes[0])] {
            return true;
        }
        if known != [None, None] {
            self.found
                .add(path, "shares its inode with other names than expected");
        }
        self.twins[0].insert(inodes[0], inodes[1]);
        self.twins[1].insert(inodes[1], inodes[0]);
        false
    }

    fn directory(&mut self, path: &Path, expected: &Path, actual: &Path) {
        let (left, right) = match (names(expected), names(actual)) {
            (Ok(left), Ok(right)) => (left, right),
            (left, right) => {
                let error = left.err().or(right.err());
                return self.found.add(path, format_args!("cannot be listed: {error:?}"));
            }
        };
        for name in left.symmetric_difference(&right) {
            let child = path.join(name);
            if !self.allowed.ignored.contains(&child) {
                self.found.add(
                    &child,
                    if left.contains(name) {
                        "is missing"
                    } else {
                        "is not expected"
                    },
                );
            }
        }
        for name in left.intersection(&right) {
            self.visit(&path.join(name));
        }
    }

    fn xattrs(&mut self, path: &Path, expected: &Path, actual: &Path) {
        let compared = |path| {
            let mut found = xattrs(path)?;
            found.retain(|name, _| {
                !name
                    .to_str()
                    .is_some_and(|name| self.allowed.xattrs.contains(name))
            });
            std::io::Result::Ok(found)
        };
        match (compared(expected), compared(actual)) {
            (Ok(left), Ok(right)) => self.same(path, "extended attributes", &left, &right),
            (left, right) => {
                let error = left.err().or(right.err());
                self.found.add(
                    path,
                    format_args!("extended attributes cannot be read: {error:?}"),
                );
            }
        }
    }

    fn same<T: PartialEq + fmt::Debug>(&mut self, path: &Path, what: &str, expected: &T, actual: &T) {
        if expected != actual {
            self.found
                .add(path, format_args!("{what} {actual:?}, expected {expected:?}"));
        }
    }
}

fn kind(meta: &Metadata) -> &'static str {
    const FORMAT: u32 = 0o170_000;
    match meta.mode() & FORMAT {
        0o040_000 => "a directory",
        0o100_000 => "a regular file",
        0o120_000 => "a symbolic link",
        0o020_000 => "a character device",
        0o060_000 => "a block device",
        0o010_000 => "a FIFO",
        0o140_000 => "a socket",
        _ => "of an unknown kind",
    }
}

fn names(dir: &Path) -> std::io::Result<BTreeSet<OsString>> {
    std::fs::read_dir(dir)?
        .map(|entry| Ok(entry?.file_name()))
        .collect()
}

/// Values as escaped text, so that differences can be read.
fn xattrs(path: &Path) -> std::io::Result<BTreeMap<OsString, String>> {
    let mut found = BTreeMap::new();
    for name in xattr::list(path)? {
        // Containers and the kernel's security modules add labels of their own.
        if name == OsStr::new("security.selinux") {
            continue;
        }
        if let Some(value) = xattr::get(path, &name)? {
            found.insert(name, value.escape_ascii().to_string());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
