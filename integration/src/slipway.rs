//! The converter under test: the built program, run as people run it.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::{binaries, process};

/// `slipway convert SOURCE TARGET`, which must succeed.
pub fn convert(source: &str, target: &str) -> Result<()> {
    convert_with(&[], source, target)
}

/// The same with options.
pub fn convert_with(options: &[&str], source: &str, target: &str) -> Result<()> {
    let mut command = binaries::slipway()?;
    command.args(["convert", "--progress", "none"]).args(options);
    command.args([source, target]);
    process::run(&mut command).map(drop)
}

/// Copies an image of a layout folder into a registry, as it is.
pub fn push(layout: &Path, tag: &str, reference: &str) -> Result<()> {
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["copy", "--quiet", "--dest-tls-verify=false"]);
    skopeo.arg(oci(layout, tag)).arg(format!("docker://{reference}"));
    process::run(&mut skopeo).map(drop)
}

/// An image of a layout folder in skopeo's notation.
pub fn oci(layout: &Path, tag: &str) -> String {
    format!("oci:{}:{tag}", layout.display())
}
