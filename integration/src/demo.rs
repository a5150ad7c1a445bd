//! The whole path on a real image, told step by step, with the same image on overlayfs beside it.

mod table;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::containerd::SNAPSHOTTER;
use crate::image::debian;
use crate::node::Node;
use crate::scene::Scene;

pub use table::Measure;

/// How long reads may wait for the registry.
const READ_DEADLINE: Duration = Duration::from_secs(30);
/// Name of the image in the registry, as it is and converted.
const NAMES: [&str; 2] = ["python:original", "python:rafs"];

/// Runs the demonstration on a scene and tells `out` about it. Ends with all parts stopped; the scene is the caller's.
pub fn run(scene: Arc<Scene>, out: &mut dyn Write) -> Result<()> {
    let mut story = Story { out, step: 0 };
    story.tell(
        "image: Debian with Python, NumPy and pandas (made once, then kept; a few minutes the first time)",
    )?;
    let layout = debian::image()?;
    let packed = packed_len(&layout)?;
    story.detail(&format!(
        "{} packed, in {}",
        table::bytes(packed),
        layout.display()
    ))?;
    story.tell("start a private registry, slipwayd and containerd")?;
    let node = Node::start(scene, READ_DEADLINE)?;
    story.tell("push the image as it is, and convert it: slipway convert oci:... docker://...")?;
    let original = node.offer(&layout, debian::TAG, NAMES[0])?;
    let started = Instant::now();
    let converted = node.offer_converted(&layout, debian::TAG, NAMES[1])?;
    story.detail(&format!(
        "converted and pushed in {:.1} s",
        started.elapsed().as_secs_f64()
    ))?;
    story.tell("lazily: slipwayd pull, ctr run; python starts while almost nothing is here")?;
    let lazy = measure(&node, &mut story, SNAPSHOTTER, &converted)?;
    story.tell("the same image with overlayfs: ctr images pull, ctr run; everything comes first")?;
    let full = measure(&node, &mut story, "overlayfs", &original)?;
    ensure!(
        lazy.output == full.output,
        "the two containers printed different things"
    );
    story.tell("stop everything")?;
    drop(node);
    let rows = [("slipway, lazy", &lazy), ("overlayfs", &full)];
    write!(story.out, "\n{}", table::render(&rows, packed)).context("write the table")
}

/// Pulls, runs, and takes the time until the container's first line of output, and the bytes that came.
fn measure(node: &Node, story: &mut Story<'_>, snapshotter: &str, reference: &str) -> Result<Measure> {
    let before = node.meter.received();
    let started = Instant::now();
    if snapshotter == SNAPSHOTTER {
        node.pull_lazily(reference)?;
    } else {
        node.containerd.pull(reference, snapshotter)?;
    }
    let pulled = started.elapsed();
    let id = node.scene.unique(snapshotter);
    let argv = ["/usr/bin/python3", debian::PROGRAM_PATH];
    let run = node.containerd.run_command(reference, snapshotter, &id, &argv);
    let (output, waited) = first_output(run)?;
    let measure = Measure {
        pulled,
        first_output: pulled + waited,
        fetched: node.meter.received() - before,
        output,
    };
    story.detail(&format!("it printed {}", measure.output.trim_end()))?;
    Ok(measure)
}

/// Runs a command to its end; gives its output and the time until the first line of it.
fn first_output(mut command: Command) -> Result<(String, Duration)> {
    let started = Instant::now();
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.with_context(|| format!("start {command:?}"))?;
    let stdout = child.stdout.take().context("its output is a pipe")?;
    let mut lines = BufReader::new(stdout);
    let mut output = String::new();
    lines
        .read_line(&mut output)
        .context("read the container's output")?;
    let waited = started.elapsed();
    std::io::Read::read_to_string(&mut lines, &mut output).context("read the container's output")?;
    let ended = child.wait_with_output().context("wait for the container")?;
    ensure!(
        ended.status.success() && !output.is_empty(),
        "the container ended with {} and printed {output:?}\n{}",
        ended.status,
        String::from_utf8_lossy(&ended.stderr)
    );
    Ok((output, waited))
}

/// Bytes of all blobs of a layout folder.
fn packed_len(layout: &Path) -> Result<u64> {
    let blobs = std::fs::read_dir(layout.join("blobs/sha256")).context("list the image's blobs")?;
    blobs.map(|blob| Ok(blob?.metadata()?.len())).sum()
}

/// One line a step.
struct Story<'a> {
    out: &'a mut dyn Write,
    step: u32,
}

impl Story<'_> {
    fn tell(&mut self, what: &str) -> Result<()> {
        self.step += 1;
        writeln!(self.out, "{}. {what}", self.step).context("write")?;
        self.out.flush().context("write")
    }

    fn detail(&mut self, what: &str) -> Result<()> {
        writeln!(self.out, "   {what}").context("write")?;
        self.out.flush().context("write")
    }
}
