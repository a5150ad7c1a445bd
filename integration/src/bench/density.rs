//! Density: how soon a container is ready that needs some percent of its image, lazily and after a full pull.
//!
//! Registry and line are real: docker-registry in a network namespace of its own, behind a token bucket. Every lazy sample
//! has a node of its own with nothing in its cache, and fills in the background as nodes do unless told otherwise.

use std::io::Write;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::record::Record;
use crate::containerd::{Containerd, Options, SNAPSHOTTER};
use crate::image::bulk::{self, FILE_COUNT};
use crate::meter::Meter;
use crate::registry::Registry;
use crate::scene::Scene;
use crate::slipwayd::{Settings, Slipwayd};
use crate::usage::{peak_memory, processor_seconds};
use crate::wire::Wire;
use crate::{process, slipway, wait};

/// Bytes of a file of the image.
const FILE_LEN: usize = 10 << 20;
/// Bytes of all of them: 2.1 GB.
pub const LEN: usize = FILE_COUNT * FILE_LEN;
/// Percent of the files that the container reads before it is ready.
const DENSITIES: [usize; 6] = [1, 5, 20, 50, 80, 100];
/// Lines, in the notation of tc, and their rates in bytes a second.
const LINES: [(&str, Option<&str>, f64); 3] = [
    ("1gbit", Some("1gbit"), 125e6),
    ("unshaped", None, f64::INFINITY),
    ("200mbit", Some("200mbit"), 25e6),
];
/// Names of the image in the registry.
const PLAIN: &str = "bulk:plain";
pub(super) const LAZY: &str = "bulk:rafs";
/// How long a whole image may take to come: several times what the slowest line takes.
const LOCAL_DEADLINE: Duration = Duration::from_secs(600);

/// What all samples share: the image in a registry at the far end of a line. Users are dropped before what they use.
pub struct Origin {
    meter: Meter,
    _registry: Registry,
    wire: Wire,
    _scene: Scene,
}

/// One node, with nothing on it.
pub(super) struct Host {
    pub(super) containerd: Containerd,
    pub(super) slipwayd: Slipwayd,
    pub(super) scene: Arc<Scene>,
}

/// Takes all figures.
pub fn run(origin: &Origin, out: &mut impl Write) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for (line, rate, bytes_per_second) in LINES {
        origin.shape(rate)?;
        writeln!(out, "density over {line}: full pull")?;
        let full = full_pull(origin)?;
        for (index, percent) in DENSITIES.into_iter().enumerate() {
            let host = Host::start(origin, &filling())?;
            let before = origin.meter.received();
            let (ready, local) = lazy_start(&host, origin, percent)?;
            writeln!(
                out,
                "density over {line}: {percent} %: {ready:.2} s, all local after {local:.2} s, full pull {:.2} s",
                full[index]
            )?;
            let case = format!("density-{percent}-{line}");
            records.push(Record::new(case, "node", (ready, "s"), 1)?.against(full[index]));
            if percent == DENSITIES[0] && bytes_per_second.is_finite() {
                let ideal = LEN as f64 / bytes_per_second;
                let case = format!("full-local-{line}");
                records.push(Record::new(case, "node", (local, "s"), 1)?.against(ideal));
            }
            if percent == 100 {
                let came = (origin.meter.received() - before) as f64;
                records.extend(cost(&host, line, came)?);
            }
        }
    }
    Ok(records)
}

impl Origin {
    /// Makes the image, pushes it and converts it.
    pub fn start() -> Result<Self> {
        let scene = Scene::create()?;
        let wire = Wire::lay()?;
        let registry = Registry::start_far(&scene, &wire)?;
        let meter = Meter::start(registry.address())?;
        let layout = scene.path("layout")?;
        bulk::make(&layout, FILE_LEN)?;
        slipway::push(&layout, bulk::TAG, &meter.reference(PLAIN))?;
        let target = format!("docker://{}", meter.reference(LAZY));
        slipway::convert(&slipway::oci(&layout, bulk::TAG), &target)?;
        std::fs::remove_dir_all(&layout).context("remove the layout")?;
        Ok(Origin {
            meter,
            _registry: registry,
            wire,
            _scene: scene,
        })
    }

    /// Gives the line a rate, in the notation of tc, or none.
    pub(super) fn shape(&self, rate: Option<&str>) -> Result<()> {
        self.wire.shape(rate)
    }

    /// An image name in the registry.
    pub(super) fn reference(&self, name: &str) -> String {
        self.meter.reference(name)
    }
}

/// As nodes are unless they are told otherwise.
fn filling() -> Settings {
    Settings {
        log_level: "info",
        fill: "auto",
        ..Settings::default()
    }
}

impl Host {
    pub(super) fn start(origin: &Origin, settings: &Settings) -> Result<Self> {
        let scene = Arc::new(Scene::create()?);
        let slipwayd = Slipwayd::start(&scene, settings)?;
        let options = Options {
            snapshotter_socket: &slipwayd.socket(),
            pause_image: None,
        };
        let containerd = Containerd::start(&scene, &options)?;
        containerd.trust(&origin.meter.address().to_string())?;
        Ok(Host {
            containerd,
            slipwayd,
            scene,
        })
    }

    /// A container that reads some percent of the files, spread over the image.
    fn reader(&self, reference: &str, snapshotter: &str, percent: usize) -> Command {
        let count = FILE_COUNT * percent / 100;
        let script = format!(
            "n=0; while [ $n -lt {count} ]; do cat /bulk/$((n * {FILE_COUNT} / {count})) >/dev/null || exit 1; \
             n=$((n + 1)); done; echo ready"
        );
        let id = self.scene.unique(&format!("{snapshotter}-{percent}"));
        let argv = ["/bin/sh", "-c", &script];
        self.containerd.run_command(reference, snapshotter, &id, &argv)
    }
}

/// Seconds until a container is ready after a full pull with overlayfs, for each density. The image is pulled once.
fn full_pull(origin: &Origin) -> Result<Vec<f64>> {
    let host = Host::start(origin, &filling())?;
    let reference = origin.meter.reference(PLAIN);
    let began = Instant::now();
    host.containerd.pull(&reference, "overlayfs")?;
    let pulled = began.elapsed().as_secs_f64();
    let times = DENSITIES.into_iter().map(|percent| {
        let began = Instant::now();
        run_to_ready(host.reader(&reference, "overlayfs", percent))?;
        Ok(pulled + began.elapsed().as_secs_f64())
    });
    times.collect()
}

/// Seconds from the pull until a container is ready, and until the whole image is here.
fn lazy_start(host: &Host, origin: &Origin, percent: usize) -> Result<(f64, f64)> {
    let reference = origin.meter.reference(LAZY);
    let began = Instant::now();
    host.slipwayd.pull(&reference, &host.containerd.socket())?;
    run_to_ready(host.reader(&reference, SNAPSHOTTER, percent))?;
    let ready = began.elapsed().as_secs_f64();
    wait::until(LOCAL_DEADLINE, "the image is local", || {
        let image = host.slipwayd.image(&reference).ok()??;
        (image["local_bytes"].as_u64()? >= LEN as u64).then_some(())
    })?;
    Ok((ready, began.elapsed().as_secs_f64()))
}

fn run_to_ready(mut container: Command) -> Result<()> {
    let said = process::text(&mut container)?;
    ensure!(said == "ready", "the container said {said:?}");
    Ok(())
}

/// What it cost the daemon to bring the whole image.
fn cost(host: &Host, line: &str, came: f64) -> Result<Vec<Record>> {
    let id = host.slipwayd.id();
    let gigabytes = LEN as f64 / 1e9;
    let figures = [
        ("processor", processor_seconds(id)? / gigabytes, "s/GB"),
        ("peak-memory", peak_memory(id)? as f64 / 1e6, "MB"),
        ("wire", came / LEN as f64, "bytes/byte"),
    ];
    let records =
        figures.map(|(name, value, unit)| Record::new(format!("{name}-{line}"), "node", (value, unit), 1));
    records.into_iter().collect()
}
