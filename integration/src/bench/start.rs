//! Cold starts: what packing small files into batches changes for a program that starts from an empty cache.
//!
//! One image is converted once for each size of a batch. Each sample mounts it with an empty cache through a registry
//! that is near or far, and runs a program in it. The sizes take turns, so that whatever else the machine does meets all
//! of them.

use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::record::{Record, median};
use crate::image::debian;
use crate::meter::Meter;
use crate::registry::Registry;
use crate::scene::Scene;
use crate::slipwayd::ImageMount;
use crate::usage::processor_seconds;
use crate::{process, slipway};

/// Samples of each figure.
const SAMPLES: usize = 9;
/// How long reads may wait for the registry.
const READ_DEADLINE: Duration = Duration::from_secs(30);
/// Sizes of batches, as figures name them and as the converter takes them. The first is what the others are held against.
const BATCHES: [(&str, &str); 4] = [
    ("batch-0", "0"),
    ("batch-256k", "256KiB"),
    ("batch-512k", "512KiB"),
    ("batch-1m", "1MiB"),
];
/// Modules of Python alone: many small files.
const LIBRARY: &str =
    "import json, http.client, email, asyncio, unittest, logging.config, concurrent.futures, argparse";
/// Large libraries too.
const PANDAS: &str = "import numpy, pandas";
/// Names of the cases, what is started, and milliseconds until the registry answers.
const CASES: [(&str, &str, u64); 4] = [
    ("start-library-near", LIBRARY, 0),
    ("start-library-10ms", LIBRARY, 10),
    ("start-pandas-near", PANDAS, 0),
    ("start-pandas-10ms", PANDAS, 10),
];

/// What one start took.
struct Start {
    /// Until the program ended, milliseconds.
    time: f64,
    /// What the registry sent, bytes.
    fetched: f64,
    /// Processor time of the daemon, milliseconds.
    processor: f64,
}

/// Takes all figures.
pub fn run(out: &mut impl Write) -> Result<Vec<Record>> {
    let layout = debian::image()?;
    let scene = Scene::create()?;
    let registry = Registry::start(&scene)?;
    let meter = Meter::start(registry.address())?;
    for (name, size) in BATCHES {
        writeln!(out, "convert with {name}")?;
        let target = format!("docker://{}", registry.reference(&format!("python:{name}")));
        let options = ["--batch-size", size];
        slipway::convert_with(&options, &slipway::oci(&layout, debian::TAG), &target)?;
    }
    let mut records = Vec::new();
    for (case, source, latency) in CASES {
        writeln!(out, "{case}")?;
        meter.delay(latency);
        let mut starts: [Vec<Start>; BATCHES.len()] = Default::default();
        for sample in 0..SAMPLES {
            for (starts, (batch, _)) in starts.iter_mut().zip(BATCHES) {
                let image = format!("docker://{}", meter.reference(&format!("python:{batch}")));
                let name = format!("{case}-{batch}-{sample}");
                starts.push(start(&scene, &meter, &name, &image, source)?);
            }
        }
        records.extend(figures(case, &starts)?);
    }
    Ok(records)
}

/// Mounts an image with an empty cache and runs a program in it.
fn start(scene: &Scene, meter: &Meter, name: &str, image: &str, source: &str) -> Result<Start> {
    let (began, before) = (Instant::now(), meter.received());
    let mount = ImageMount::start(scene, name, image, READ_DEADLINE)?;
    let mut python = Command::new("chroot");
    python.arg(mount.point()).args(["/usr/bin/python3", "-c", source]);
    process::run(python.env_clear().env("PATH", "/usr/sbin:/usr/bin"))?;
    let start = Start {
        time: began.elapsed().as_secs_f64() * 1e3,
        fetched: (meter.received() - before) as f64,
        processor: processor_seconds(mount.id())? * 1e3,
    };
    mount.stop()?;
    std::fs::remove_dir_all(scene.dir().join(format!("{name}.cache"))).context("remove the cache")?;
    Ok(start)
}

/// The medians of one case, each held against the first size.
fn figures(case: &'static str, starts: &[Vec<Start>]) -> Result<Vec<Record>> {
    type Pick = fn(&Start) -> f64;
    let figures: [(&'static str, Pick); 3] = [
        ("ms", |start| start.time),
        ("bytes", |start| start.fetched),
        ("processor-ms", |start| start.processor),
    ];
    let mut records = Vec::new();
    for (unit, pick) in figures {
        let medians = starts
            .iter()
            .map(|starts| median(starts.iter().map(pick).collect()));
        let medians: Vec<f64> = medians.collect();
        for (value, (tier, _)) in medians.iter().zip(BATCHES) {
            records.push(Record::new(case, tier, (*value, unit), SAMPLES)?.against(medians[0]));
        }
    }
    Ok(records)
}
