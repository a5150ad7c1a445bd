//! Every kind of inode, every attribute a tar can carry, and every way one layer can change another.

use std::io::Write;
use std::path::Path;

use anyhow::Result;

use super::layer::{Entry, Kind, LayerTar};
use super::layout::{Compression, Layout};

/// Sizes around the borders of blocks and chunks.
const SIZES: [usize; 10] = [
    0,
    1,
    4095,
    4096,
    4097,
    (1 << 20) - 1,
    1 << 20,
    (1 << 20) + 1,
    2 << 20,
    (3 << 20) + 123,
];

/// Times that unpackers get wrong: before 1970, zero, fractions, beyond 2038 and 2106.
const TIMES: [(i64, u32); 8] = [
    (0, 0),
    (-1, 0),
    (-1, 999_999_999),
    (-1_000_000_000, 1),
    (1, 123_456_789),
    (2_147_483_648, 0),
    (4_294_967_296, 500_000_000),
    (1_700_000_000, 1),
];

/// Names that are bytes, not text; the last one is filled up to the limit.
const NAMES: [&[u8]; 12] = [
    b"with space",
    b"with\nline feed",
    b"back\\slash",
    b"\xff\xfe not UTF-8",
    "\u{e9}\u{4e2d}\u{1f980}".as_bytes(),
    b"-dash",
    b".hidden",
    b"..dots",
    b"#hash",
    b"+plus",
    b"\x01control",
    b"trailing.",
];

/// Writes the image `edge:1` into `dir`.
pub fn make(dir: &Path) -> Result<()> {
    let mut layout = Layout::create(dir)?;
    let layers = [
        layout.layer(Compression::Gzip, base_layer)?,
        layout.layer(Compression::None, change_layer)?,
        layout.layer(Compression::Gzip, late_layer)?,
    ];
    layout.image("edge:1", &layers, &["/bin/true"])
}

/// Bytes that do not compress and differ for each seed (a linear congruential generator's upper bits).
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let step = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(step).collect()
}

fn base_layer<W: Write>(tar: &mut LayerTar<W>) -> Result<()> {
    tar.append(&Entry::new("./", Kind::Directory).mtime(1_650_000_000, 5))?;
    files(tar)?;
    attributes(tar)?;
    special(tar)?;
    links(tar)?;
    for dir in ["keep", "gone", "opaque", "opaque/sub", "swap-dir", "again"] {
        tar.append(&Entry::new(dir, Kind::Directory))?;
        tar.append(&Entry::new(&format!("{dir}/lower"), Kind::File(dir.as_bytes())))?;
    }
    tar.append(&Entry::new("keep/removed", Kind::File(b"not seen in the end")))?;
    tar.append(
        &Entry::new("implicit-parent", Kind::Directory)
            .mode(0o700)
            .owner(7, 8),
    )?;
    tar.append(&Entry::new(
        "implicit-parent/removed",
        Kind::File(b"removed by layer 3"),
    ))?;
    tar.append(&Entry::new("implicit-parent/stays", Kind::File(b"stays")))?;
    tar.append(&Entry::new("swap-file", Kind::File(b"becomes a directory")))?;
    tar.append(&Entry::new("swap-link", Kind::Symlink(b"keep")))
}

fn files<W: Write>(tar: &mut LayerTar<W>) -> Result<()> {
    tar.append(&Entry::new("files", Kind::Directory))?;
    for (seed, size) in SIZES.into_iter().enumerate() {
        let data = noise(size, seed as u64);
        tar.append(&Entry::new(&format!("files/{size}"), Kind::File(&data)))?;
    }
    tar.append(&Entry::new("files/zeros", Kind::File(&vec![0; (2 << 20) + 77])))?;
    tar.append(&Entry::new(
        "files/text",
        Kind::File("all work and no play\n".repeat(100_000).as_bytes()),
    ))?;
    tar.append(&Entry::new("names", Kind::Directory))?;
    for name in NAMES {
        let path = [b"names/", name].concat();
        tar.append(&Entry::new(&path, Kind::File(name)))?;
    }
    let longest = format!("names/{}", "n".repeat(255));
    tar.append(&Entry::new(&longest, Kind::File(b"255")))?;
    let deep = "d/".repeat(120);
    tar.append(&Entry::new(&format!("deep/{deep}leaf"), Kind::File(b"deep")))
}

fn attributes<W: Write>(tar: &mut LayerTar<W>) -> Result<()> {
    tar.append(&Entry::new("times", Kind::Directory).mtime(-5, 250_000_000))?;
    for (number, (secs, nanos)) in TIMES.into_iter().enumerate() {
        tar.append(&Entry::new(&format!("times/{number}"), Kind::File(b"t")).mtime(secs, nanos))?;
    }
    tar.append(&Entry::new("modes", Kind::Directory))?;
    for mode in [0, 0o1, 0o400, 0o644, 0o777, 0o4755, 0o2755, 0o1644, 0o7777] {
        tar.append(&Entry::new(&format!("modes/f{mode:o}"), Kind::File(b"m")).mode(mode))?;
        tar.append(&Entry::new(&format!("modes/d{mode:o}"), Kind::Directory).mode(mode))?;
    }
    let large = Entry::new("modes/owner", Kind::File(b"o")).owner(3_000_000_000, 4_294_967_294);
    tar.append(&large.mode(0o6755))?;
    tar.append(&Entry::new("modes/sixteen-bits", Kind::File(b"o")).owner(65_535, 65_536))?;
    let capability: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let binary: Vec<u8> = (1..=255).collect();
    tar.append(&Entry::new("xattrs", Kind::Directory).xattrs(&[("user.dir", b"on a directory")]))?;
    let many: &[(&str, &[u8])] = &[
        ("user.text", b"value"),
        ("user.binary", &binary),
        ("trusted.note", b"only root sees it"),
        ("security.capability", capability),
    ];
    tar.append(&Entry::new("xattrs/many", Kind::File(b"x")).xattrs(many))?;
    tar.append(&Entry::new("xattrs/empty", Kind::File(b"x")).xattrs(&[("user.empty", b"")]))?;
    let large = vec![b'v'; 3000];
    tar.append(&Entry::new("xattrs/large", Kind::File(b"x")).xattrs(&[("user.large", &large)]))
}

fn special<W: Write>(tar: &mut LayerTar<W>) -> Result<()> {
    tar.append(&Entry::new("special", Kind::Directory))?;
    tar.append(&Entry::new("special/null", Kind::CharDevice(1, 3)).mode(0o666))?;
    tar.append(&Entry::new("special/large", Kind::CharDevice(300, 70_000)))?;
    tar.append(&Entry::new("special/block", Kind::BlockDevice(7, 200)).owner(0, 6))?;
    tar.append(&Entry::new("special/fifo", Kind::Fifo).mode(0o600))
}

fn links<W: Write>(tar: &mut LayerTar<W>) -> Result<()> {
    tar.append(&Entry::new("links", Kind::Directory))?;
    let long = "target/".repeat(300);
    let targets: [(&str, &[u8]); 5] = [
        ("relative", b"../files/4096"),
        ("absolute", b"/files/4096"),
        ("dangling", b"nowhere"),
        ("loop", b"loop"),
        ("long", long.as_bytes()),
    ];
    for (name, target) in targets {
        tar.append(&Entry::new(&format!("links/{name}"), Kind::Symlink(target)).mode(0o777))?;
    }
    tar.append(&Entry::new("links/one", Kind::File(b"three names")))?;
    tar.append(&Entry::new("links/two", Kind::HardLink(b"links/one")))?;
    tar.append(&Entry::new("keep", Kind::Directory))?;
    tar.append(&Entry::new("keep/three", Kind::HardLink(b"links/two")))?;
    tar.append(&Entry::new(
        "links/pair-a",
        Kind::File(b"one of two is removed later"),
    ))?;
    tar.append(&Entry::new("links/pair-b", Kind::HardLink(b"links/pair-a")))
}

/// The second layer: whiteouts, an opaque directory, kinds that change, a link into the lower layer.
fn change_layer<W: Write>(tar: &mut LayerTar<W>) -> Result<()> {
    tar.append(
        &Entry::new("keep", Kind::Directory)
            .mode(0o750)
            .mtime(1_660_000_000, 1),
    )?;
    tar.whiteout("keep", "removed")?;
    tar.whiteout(".", "gone")?;
    tar.append(&Entry::new("opaque", Kind::Directory))?;
    tar.opaque("opaque")?;
    tar.append(&Entry::new("opaque/upper", Kind::File(b"only this is left")))?;
    tar.append(&Entry::new("swap-dir", Kind::File(b"was a directory")))?;
    tar.append(&Entry::new("swap-file", Kind::Directory))?;
    tar.append(&Entry::new("swap-file/inside", Kind::File(b"was a file")))?;
    tar.append(&Entry::new("swap-link", Kind::File(b"was a link")))?;
    tar.append(&Entry::new("links/into-lower", Kind::HardLink(b"files/4097")))?;
    tar.whiteout("links", "pair-b")?;
    tar.append(
        &Entry::new("files/1", Kind::File(b"replaced"))
            .mode(0o600)
            .owner(1, 2),
    )?;
    tar.append(&Entry::new("new/without/listed/parents", Kind::File(b"n")))
}

/// The third layer: a whiteout below a directory it does not list, and a name removed and made again at once.
fn late_layer<W: Write>(tar: &mut LayerTar<W>) -> Result<()> {
    tar.whiteout("implicit-parent", "removed")?;
    tar.whiteout(".", "again")?;
    tar.append(&Entry::new("again", Kind::Directory).mode(0o711))?;
    tar.append(&Entry::new("again/upper", Kind::File(b"made again")))
}
