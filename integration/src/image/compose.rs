//! Layers as containers change them: what an overlay has to compose, and what programs then do to it.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

use super::edge::noise;
use super::layer::{Entry, Kind, LayerTar};
use super::layout::{Compression, Layout};

/// Name of the image in its layout folder.
pub const TAG: &str = "compose:1";
/// `cap_net_raw+ep` as the kernel stores it (version 2).
pub const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// A program that prints the user it runs as.
const ID: &str = "/usr/bin/id";

/// Writes the image [`TAG`] into `dir`.
pub fn make(dir: &Path) -> Result<()> {
    let id = std::fs::read(ID).with_context(|| format!("read {ID}"))?;
    let mut layout = Layout::create(dir)?;
    let layers = [
        layout.layer(Compression::Gzip, |tar| base_layer(tar, &id))?,
        layout.layer(Compression::Gzip, change_layer)?,
        layout.layer(Compression::Gzip, through_links_layer)?,
    ];
    layout.image(TAG, &layers, &["/bin/true"])
}

fn base_layer<W: Write>(tar: &mut LayerTar<W>, id: &[u8]) -> Result<()> {
    tar.append(
        &Entry::new("./", Kind::Directory)
            .mode(0o750)
            .owner(5, 6)
            .mtime(1_500_000_000, 7),
    )?;
    for dir in [
        "hide",
        "hide/sub",
        "opaque",
        "opaque/sub",
        "swap",
        "work",
        "work/full",
        "work/tree",
        "work/tree/deep",
        "again",
    ] {
        tar.append(&Entry::new(dir, Kind::Directory))?;
        tar.append(&Entry::new(&format!("{dir}/lower"), Kind::File(dir.as_bytes())))?;
    }
    tar.append(&Entry::new("hide/removed", Kind::File(b"removed by layer 2")))?;
    tar.append(&Entry::new("work/large", Kind::File(&noise((1 << 20) + 5, 1))))?;
    for name in [
        "append", "truncate", "mode", "owner", "over", "onto", "unlink", "map",
    ] {
        tar.append(&Entry::new(&format!("work/{name}"), Kind::File(name.as_bytes())))?;
    }
    special(tar, id)?;
    linked_folders(tar)
}

/// What copying up has to carry along.
fn special<W: Write>(tar: &mut LayerTar<W>, id: &[u8]) -> Result<()> {
    // None of `trusted.`: containerd's unpacker leaves those out, with a warning.
    let attributes: &[(&str, &[u8])] = &[
        ("user.note", b"for everybody"),
        ("user.overlay.note", b"looks like overlayfs's own, but is not"),
    ];
    tar.append(&Entry::new("work/noted", Kind::File(b"xattrs")).xattrs(attributes))?;
    tar.append(&Entry::new("work/noted-dir", Kind::Directory).xattrs(attributes))?;
    let capability: &[(&str, &[u8])] = &[("security.capability", &CAPABILITY)];
    tar.append(
        &Entry::new("work/capable", Kind::File(id))
            .mode(0o755)
            .xattrs(capability),
    )?;
    tar.append(&Entry::new("work/setuid", Kind::File(id)).mode(0o4755))?;
    tar.append(&Entry::new("work/setgid", Kind::File(id)).mode(0o2755).owner(0, 7))?;
    tar.append(&Entry::new("work/null", Kind::CharDevice(1, 3)).mode(0o666))?;
    tar.append(&Entry::new("work/zero", Kind::CharDevice(1, 5)).mode(0o666))?;
    tar.append(&Entry::new("work/block", Kind::BlockDevice(7, 200)))?;
    tar.append(&Entry::new("work/fifo", Kind::Fifo))?;
    tar.append(&Entry::new("work/symlink", Kind::Symlink(b"large")).mode(0o777))?;
    // One time, as the members of one file have: containerd sets that of the last.
    let time = 1_600_000_000;
    tar.append(&Entry::new("work/one", Kind::File(b"one inode")).mtime(time, 0))?;
    tar.append(&Entry::new("work/two", Kind::HardLink(b"work/one")).mtime(time, 0))?;
    tar.append(&Entry::new("work/three", Kind::HardLink(b"work/one")).mtime(time, 0))
}

/// Directories with a link that leads to them, as `/lib` leads to `/usr/lib`.
fn linked_folders<W: Write>(tar: &mut LayerTar<W>) -> Result<()> {
    tar.append(&Entry::new("usr", Kind::Directory))?;
    for (number, name) in ["lib", "sbin", "share", "games", "include"]
        .into_iter()
        .enumerate()
    {
        let number = u32::try_from(number).context("a few names")?;
        let dir = format!("usr/{name}");
        let note: &[(&str, &[u8])] = &[("user.dir", name.as_bytes())];
        tar.append(
            &Entry::new(&dir, Kind::Directory)
                .mode(0o711)
                .owner(20 + number, 30)
                .xattrs(note),
        )?;
        tar.append(&Entry::new(&format!("{dir}/lower"), Kind::File(b"lower")))?;
        tar.append(&Entry::new(&format!("{dir}/removed"), Kind::File(b"removed")))?;
        tar.append(&Entry::new(name, Kind::Symlink(dir.as_bytes())).mode(0o777))?;
    }
    tar.append(&Entry::new("dangling", Kind::Symlink(b"nowhere")).mode(0o777))?;
    tar.append(&Entry::new("to-file", Kind::Symlink(b"work/large")).mode(0o777))
}

/// Whiteouts, an opaque directory, kinds that change.
fn change_layer<W: Write>(tar: &mut LayerTar<W>) -> Result<()> {
    tar.whiteout("hide", "removed")?;
    tar.whiteout("hide", "sub")?;
    tar.append(&Entry::new("opaque", Kind::Directory).mode(0o700))?;
    tar.opaque("opaque")?;
    tar.append(&Entry::new("opaque/upper", Kind::File(b"only this is left")))?;
    tar.append(&Entry::new("swap", Kind::File(b"was a directory")))?;
    tar.whiteout(".", "again")
}

/// Members below links of this layer and of the one below.
fn through_links_layer<W: Write>(tar: &mut LayerTar<W>) -> Result<()> {
    // The folder made anew is not the one that was removed.
    tar.append(&Entry::new("again", Kind::Directory))?;
    tar.append(&Entry::new("again/upper", Kind::File(b"made again")))?;
    tar.append(&Entry::new("lib/upper", Kind::File(b"through a lower link")))?;
    tar.whiteout("sbin", "removed")?;
    tar.opaque("share")?;
    // Here the link is this layer's own.
    tar.append(&Entry::new("games", Kind::Symlink(b"usr/games")).mode(0o777))?;
    tar.append(&Entry::new(
        "games/upper",
        Kind::File(b"through a link of the layer"),
    ))?;
    tar.whiteout("games", "removed")?;
    tar.append(&Entry::new("include", Kind::Directory).mode(0o700))?;
    tar.append(&Entry::new(
        "dangling/upper",
        Kind::File(b"through a link to nothing"),
    ))?;
    tar.append(&Entry::new(
        "to-file/upper",
        Kind::File(b"through a link to a file"),
    ))
}
