//! The data path: one tree read through ext4, through overlayfs on it, and through Slipway as containers see it.
//!
//! | room | holds |
//! |---|---|
//! | [`sample`] | the tree: as files, and as a layer |
//! | [`side`] | the ways to it, and how each is put into a known state |
//! | [`work`] | what is done, and how fast it went |

pub mod sample;
pub mod side;
pub mod work;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};

use self::side::{Side, State};
use super::record::{Record, median};
use crate::scene::Scene;

/// Samples of each figure. Sides take turns sample by sample, so that all see the same machine.
pub const SAMPLES: usize = 5;

/// What all others are held against.
const BASELINE: &str = "overlayfs";

/// One thing that is measured.
struct Case {
    name: &'static str,
    unit: &'static str,
    state: State,
    /// Does the work under a root; the number of the sample picks files where each sample needs its own.
    work: fn(&Path, usize) -> Result<f64>,
}

/// Cold ones first: later ones read everything.
const CASES: [Case; 10] = [
    Case {
        name: "cold-seq",
        unit: "MB/s",
        state: State::Cold,
        work: work::sequential_one,
    },
    Case {
        name: "cold-small-files",
        unit: "files/s",
        state: State::Cold,
        work: work::small_some,
    },
    Case {
        name: "warm-seq-128k",
        unit: "MB/s",
        state: State::Warm,
        work: work::sequential,
    },
    Case {
        name: "warm-mmap",
        unit: "MB/s",
        state: State::Warm,
        work: work::mapped,
    },
    Case {
        name: "warm-small-files",
        unit: "files/s",
        state: State::Warm,
        work: work::small,
    },
    Case {
        name: "warm-stat",
        unit: "files/s",
        state: State::Warm,
        work: work::stat,
    },
    Case {
        name: "tepid-rand-4k",
        unit: "us (p50)",
        state: State::Tepid,
        work: work::random,
    },
    Case {
        name: "tepid-seq",
        unit: "MB/s",
        state: State::Tepid,
        work: work::sequential,
    },
    Case {
        name: "stored-rand-4k",
        unit: "us (p50)",
        state: State::Stored,
        work: work::random,
    },
    Case {
        name: "stored-seq",
        unit: "MB/s",
        state: State::Stored,
        work: work::sequential,
    },
];

/// Takes the figures of the cases whose names begin with one of `wanted`, or of all cases if none is named, on a scene,
/// and tells `out` how far it is.
pub fn run(scene: &Arc<Scene>, wanted: &[String], out: &mut dyn Write) -> Result<Vec<Record>> {
    let mut tell = |what: &str| writeln!(out, "{what}").context("write");
    tell("making the tree, as files and as a layer")?;
    let sample = sample::make(scene)?;
    tell("starting the sides")?;
    let mut sides = side::start(scene, &sample)?;
    let mut records = Vec::new();
    let is_wanted = |case: &&Case| wanted.is_empty() || wanted.iter().any(|name| case.name.starts_with(name));
    for case in CASES.iter().filter(is_wanted) {
        tell(case.name)?;
        records.extend(measure(case, &mut sides)?);
    }
    Ok(records)
}

/// One case on all sides, in turns.
fn measure(case: &Case, sides: &mut [Side]) -> Result<Vec<Record>> {
    let mut samples = vec![Vec::new(); sides.len()];
    for side in sides.iter_mut().filter(|_| case.state != State::Cold) {
        // The first read only warms, and brings what was never read.
        (case.work)(side.root(), 0)?;
    }
    for number in 0..SAMPLES {
        for (side, samples) in sides.iter_mut().zip(&mut samples) {
            let is_ready = side.put_into(case.state);
            is_ready.with_context(|| format!("before {} on {}", case.name, side.name()))?;
            let value = (case.work)(side.root(), number).and_then(|value| {
                // What was to be read from RAM must be there still. What was read from the disk may be seen on its way out.
                if case.state == State::Tepid {
                    side.check_source(case.state)?;
                }
                Ok(value)
            });
            samples.push(value.with_context(|| format!("{} on {}", case.name, side.name()))?);
        }
    }
    let medians: Vec<f64> = samples.into_iter().map(median).collect();
    let baseline = sides.iter().position(|side| side.name() == BASELINE);
    let baseline = medians[baseline.context("there is something to hold the others against")?];
    let others = sides
        .iter()
        .zip(medians)
        .filter(|(side, _)| side.name() != BASELINE);
    others
        .map(|(side, value)| {
            let record = Record::new(case.name, side.name(), (value, case.unit), SAMPLES)?;
            Ok(record.against(baseline))
        })
        .collect()
}
