//! A container that runs, in a megabyte: one static busybox with its usual names.

use std::path::Path;

use anyhow::{Context, Result};

use super::layer::{Entry, Kind, LayerTar};
use super::layout::{Compression, Layer, Layout};

/// Where Debian's `busybox-static` lies.
const BUSYBOX: &str = "/bin/busybox";
/// Names under which tests call it.
const APPLETS: [&str; 12] = [
    "sh",
    "cat",
    "ls",
    "echo",
    "sleep",
    "sha256sum",
    "stat",
    "true",
    "wc",
    "touch",
    "rm",
    "find",
];
/// Seconds after which the pause process would end by itself: thirty years.
const PAUSE_SECONDS: &str = "1000000000";

/// Writes two images into `dir`: `busybox:1`, which greets, and `pause:1`, which waits for ever.
pub fn make(dir: &Path) -> Result<()> {
    let mut layout = Layout::create(dir)?;
    let base = layer(&mut layout)?;
    let data = layout.layer(Compression::Gzip, |tar| {
        tar.append(&Entry::new("data", Kind::Directory))?;
        tar.append(&Entry::new("data/greeting", Kind::File(b"hello from a layer\n")))
    })?;
    layout.image(
        "busybox:1",
        &[base.clone(), data],
        &["/bin/cat", "/data/greeting"],
    )?;
    layout.image("pause:1", &[base], &["/bin/sleep", PAUSE_SECONDS])
}

/// Writes the layer with busybox alone.
pub fn layer(layout: &mut Layout) -> Result<Layer> {
    let program = std::fs::read(BUSYBOX).context("read busybox (package busybox-static)")?;
    layout.layer(Compression::Gzip, |tar| base_layer(tar, &program))
}

fn base_layer<W: std::io::Write>(tar: &mut LayerTar<W>, program: &[u8]) -> Result<()> {
    for dir in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
        tar.append(&Entry::new(dir, Kind::Directory))?;
    }
    tar.append(&Entry::new(
        "etc/passwd",
        Kind::File(b"root:x:0:0:root:/root:/bin/sh\n"),
    ))?;
    tar.append(&Entry::new("etc/group", Kind::File(b"root:x:0:\n")))?;
    tar.append(&Entry::new("bin/busybox", Kind::File(program)).mode(0o755))?;
    for applet in APPLETS {
        tar.append(&Entry::new(&format!("bin/{applet}"), Kind::Symlink(b"busybox")))?;
    }
    Ok(())
}
