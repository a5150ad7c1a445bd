//! A real image: Debian with Python, NumPy and pandas, more than 100 MB packed, in three layers.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::cache;
use super::layer::{Entry, Kind};
use super::layout::{Compression, Layout};
use crate::process;

/// Tag of the image in its layout.
pub const TAG: &str = "python:1";
/// The Debian release the image is made of.
const RELEASE: &str = "bookworm";
/// What comes on top of the smallest system.
const PACKAGES: &str = "python3,python3-numpy,python3-pandas,libopenblas0-pthread";
/// Raised whenever the making below changes.
const RECIPE: u32 = 1;
/// What goes into the second layer, as `tar` patterns; the first has the rest.
const PYTHON_PATHS: [&str; 3] = ["./usr/lib/python3", "./usr/lib/python3.11", "./usr/share/python3"];
/// Contents that only the making needs; the folders stay.
const LEFT_OUT: [&str; 4] = [
    "./var/cache/apt/*.bin",
    "./var/cache/apt/archives/*.deb",
    "./var/lib/apt/lists/*_*",
    "./var/log/*.log",
];
/// What the image's containers run.
const PROGRAM: &str = "\
import json, platform
import numpy
matrix = numpy.arange(9.0).reshape(3, 3)
print(json.dumps({'python': platform.python_version(), 'numpy': numpy.__version__, 'trace': numpy.trace(matrix)}))
";

/// Where the image's program lies.
pub const PROGRAM_PATH: &str = "/app/main.py";

/// The layout folder of the image, made when it is not in the cache yet (a few minutes, mostly downloads).
pub fn image() -> Result<PathBuf> {
    let recipe = format!("{RECIPE} {RELEASE} {PACKAGES} {PYTHON_PATHS:?} {LEFT_OUT:?} {PROGRAM}");
    cache::image("debian", &recipe, make)
}

fn make(dir: &Path) -> Result<()> {
    let work = dir.with_extension("root");
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", &format!("--include={PACKAGES}"), RELEASE]);
    process::run(debootstrap.arg(&work).arg(mirror()?)).context("make a Debian root")?;
    let mut layout = Layout::create(dir)?;
    let but_python: Vec<_> = PYTHON_PATHS
        .iter()
        .map(|path| format!("--exclude={path}"))
        .collect();
    let mut base: Vec<&str> = but_python.iter().map(String::as_str).collect();
    base.push(".");
    let program = |tar: &mut super::layer::LayerTar<_>| {
        tar.append(&Entry::new("app", Kind::Directory))?;
        tar.append(&Entry::new("app/main.py", Kind::File(PROGRAM.as_bytes())).mode(0o755))?;
        // A layer that only adds would leave whiteouts to the artificial images.
        tar.whiteout("usr/share", "doc")
    };
    let layers = [
        pack(&layout, &work, &base)?,
        pack(&layout, &work, &PYTHON_PATHS)?,
        layout.layer(Compression::Gzip, program)?,
    ];
    layout.image(TAG, &layers, &["/usr/bin/python3", PROGRAM_PATH])
}

/// Packs paths of a root with GNU tar, so that the image does not depend on this project's own tar writing.
fn pack(layout: &Layout, root: &Path, paths: &[&str]) -> Result<super::layout::Layer> {
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(root).args([
        "--create",
        "--format=posix",
        "--pax-option=delete=atime,delete=ctime",
    ]);
    tar.args(["--sort=name", "--numeric-owner", "--xattrs", "--xattrs-include=*"]);
    tar.args(LEFT_OUT.iter().map(|pattern| format!("--exclude={pattern}")))
        .args(paths);
    let mut child = tar
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("start tar")?;
    let mut stream = child.stdout.take().context("tar's output is a pipe")?;
    let layer = layout.layer_from_tar(Compression::Gzip, &mut stream);
    drop(stream);
    ensure!(child.wait().context("wait for tar")?.success(), "tar failed");
    layer
}

/// The Debian mirror this machine is set up with.
fn mirror() -> Result<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let more = std::fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten()
        .flatten();
    files.extend(more.map(|entry| entry.path()));
    files.sort();
    let texts = files.iter().filter_map(|file| std::fs::read_to_string(file).ok());
    texts
        .flat_map(|text| main_archives(&text))
        .next()
        .context("no Debian mirror in /etc/apt/sources.list and sources.list.d\nhint: set one up for apt")
}

/// Addresses of main archives of Debian in a file of apt's, in either of its two formats. Main archives are told from
/// updates, security and foreign archives by suite (a plain word) and component (`main`) and by what debootstrap needs.
fn main_archives(text: &str) -> Vec<String> {
    let is_main = |suites: &str| {
        suites
            .split_whitespace()
            .any(|suite| suite == RELEASE || suite == "stable")
    };
    let one_line = text.lines().filter_map(|line| {
        let line = line.trim().strip_prefix("deb ")?.trim();
        let line = if line.starts_with('[') {
            line.split_once(']')?.1
        } else {
            line
        };
        let mut words = line.split_whitespace();
        let (uri, suite) = (words.next()?, words.next()?);
        (is_main(suite) && words.any(|word| word == "main")).then(|| uri.to_owned())
    });
    let stanzas = text.split("\n\n").filter_map(|stanza| {
        let field = |name: &str| {
            let mut lines = stanza.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
        };
        let wanted = field("Types")?.split_whitespace().any(|word| word == "deb")
            && is_main(field("Suites")?)
            && field("Components")?.split_whitespace().any(|word| word == "main");
        wanted
            .then(|| field("URIs")?.split_whitespace().next().map(str::to_owned))
            .flatten()
    });
    one_line.chain(stanzas).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_formats_of_apt() {
        let list = "# deb http://no/ bookworm main\ndeb [signed-by=/k] http://one/debian bookworm main contrib\n\
                    deb http://one/security bookworm-security main\ndeb http://pkg.invalid/apt tool-bookworm main\n";
        assert_eq!(main_archives(list), ["http://one/debian"]);
        let sources = "Types: deb\n# a comment\nURIs: http://two/debian\nSuites: bookworm bookworm-updates\nComponents: main\n\n\
                       Types: deb\nURIs: http://two/security\nSuites: bookworm-security\nComponents: main\n";
        assert_eq!(main_archives(sources), ["http://two/debian"]);
    }
}
