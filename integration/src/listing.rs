//! A tree as lines of JSON, one a path, in the form in which the reference images say what they hold.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// Attributes of each path but the root; hard links are named by all paths of their group.
pub type Listing = BTreeMap<String, Map<String, Value>>;

/// Describes the tree under `root`. Its names must be UTF-8.
pub fn of_tree(root: &Path) -> Result<Listing> {
    let mut listing = Listing::new();
    let mut names: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    let mut open = vec![PathBuf::new()];
    while let Some(dir) = open.pop() {
        let full = root.join(&dir);
        for entry in std::fs::read_dir(&full).with_context(|| format!("list {}", full.display()))? {
            let path = dir.join(entry.context("list a directory")?.file_name());
            let name = path.to_str().context("a name is not UTF-8")?.to_owned();
            let full = root.join(&path);
            let line = describe(&full).with_context(|| format!("describe {}", full.display()))?;
            if line["type"] == "dir" {
                open.push(path);
            } else {
                let inode = full.symlink_metadata()?.ino();
                names.entry(inode).or_default().push(name.clone());
            }
            listing.insert(name, line);
        }
    }
    for mut group in names.into_values() {
        group.sort();
        let is_shared = group.len() > 1;
        let all: Vec<_> = group.iter().map(hex::encode).collect();
        for name in &group {
            let value = if is_shared { all.join("00") } else { String::new() };
            if let Some(line) = listing.get_mut(name) {
                line.insert("hlgroup".to_owned(), value.into());
            }
        }
    }
    for (path, line) in &mut listing {
        line.insert("path".to_owned(), path.clone().into());
    }
    Ok(listing)
}

/// Reads lines that were written by somebody else.
pub fn parse(lines: &str) -> Result<Listing> {
    let parse = |line| -> Result<_> {
        let line: Map<String, Value> = serde_json::from_str(line).context("parse a line")?;
        let path = line["path"].as_str().context("a line has a path")?.to_owned();
        Ok((path, line))
    };
    lines.lines().map(parse).collect()
}

/// Panics with the first paths that differ unless the listings are the same.
pub fn assert_same(expected: &Listing, actual: &Listing) {
    let paths = |listing: &Listing| listing.keys().cloned().collect::<Vec<_>>();
    assert_eq!(paths(expected), paths(actual), "other paths");
    for (path, line) in expected {
        assert_eq!(line, &actual[path], "{path}");
    }
    assert!(
        !expected.is_empty(),
        "the listings are empty, which proves nothing"
    );
}

fn describe(path: &Path) -> Result<Map<String, Value>> {
    let meta = path.symlink_metadata().context("look at it")?;
    let mut xattrs = Map::new();
    for name in xattr::list(path).context("list extended attributes")? {
        let value = xattr::get(path, &name).context("read an extended attribute")?;
        let name = name.to_str().context("an attribute's name is not UTF-8")?;
        xattrs.insert(name.to_owned(), hex::encode(value.unwrap_or_default()).into());
    }
    let mut line = Map::new();
    let mut say = |key: &str, value: Value| line.insert(key.to_owned(), value);
    say("uid", meta.uid().into());
    say("gid", meta.gid().into());
    say("mode", format!("{:#o}", meta.mode() & 0o7777).into());
    say(
        "mtime_ns",
        (meta.mtime() * 1_000_000_000 + meta.mtime_nsec()).into(),
    );
    say("xattr", xattrs.into());
    let file_type = meta.file_type();
    if !file_type.is_dir() {
        say("nlink", meta.nlink().into());
        say("size", meta.size().into());
    }
    let kind = if file_type.is_dir() {
        "dir"
    } else if file_type.is_file() {
        let content = std::fs::read(path).context("read it")?;
        say("content", hex::encode(Sha256::digest(content)).into());
        "file"
    } else if file_type.is_symlink() {
        let target = std::fs::read_link(path).context("read its target")?;
        say("target", hex::encode(target.as_os_str().as_bytes()).into());
        "symlink"
    } else {
        let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
        let is_device = file_type.is_char_device() || file_type.is_block_device();
        if is_device {
            say("rdev", format!("{major}:{minor}").into());
        }
        match () {
            () if file_type.is_char_device() => "char",
            () if file_type.is_block_device() => "block",
            () if file_type.is_fifo() => "fifo",
            () => "socket",
        }
    };
    say("type", json!(kind));
    Ok(line)
}
