//! Daemons that are killed while their cache changes. In the ordinary suite a few times; `make crash-fill` kills 200
//! times.
//!
//! | variable | meaning |
//! |---|---|
//! | `SLIPWAY_FILL_KILLS` | kills in each case |
//! | `SLIPWAY_FILL_SECONDS` | when a case is satisfied with fewer |

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use fuse::ImageStatus;
use integration::evictor::{READY, SIZE_MAX};
use integration::image::single::Single;
use integration::image::steady;
use integration::node::{Node, Settings};
use integration::origin::Origin;
use integration::reader::LARGE;
use integration::scene::Scene;
use integration::served::cache_dir;
use integration::{binaries, mounts};
use rand::RngExt;
use rustix::fs::Advice;

use super::Case;
use super::outcome::{BYTES, IN_TIME, NOTHING, Outcome};
use super::stage::{LEN, Stage, source, terms};
use crate::node::{say, setting};

/// Kills of a case in the ordinary suite.
const KILLS: usize = 5;
/// Seconds after which a case in the ordinary suite is satisfied.
const SECONDS: u64 = 20;
/// Bytes of the large file: some lives of the daemon long at the rate below.
const LARGE_LEN: usize = 48 << 20;
/// Rate at which the image fills.
const RATE: &str = "48MiB/s";
/// Longest life of a daemon that fills.
const FILL_LIFE_MAX: Duration = Duration::from_millis(500);
/// Longest life of one that evicts, counted from when it begins.
const EVICT_LIFE_MAX: Duration = Duration::from_millis(12);
/// Bytes that are compared in one place after each death.
const SPAN_LEN: usize = 256 << 10;
/// Places that are compared after each death.
const SPANS: usize = 6;

/// The image whose cache is too large: of many chunks, so that evicting takes its time.
static MANY_CHUNKS: LazyLock<Single> = LazyLock::new(|| Single::make(LEN, 4096).unwrap());

pub(super) const CASES: &[Case] = &[
    ("killed-filling", killed_filling),
    ("killed-evicting", killed_evicting),
];

/// How often to kill, and how long at most.
fn limits() -> (usize, Duration) {
    let seconds = setting("SLIPWAY_FILL_SECONDS", SECONDS);
    (setting("SLIPWAY_FILL_KILLS", KILLS), Duration::from_secs(seconds))
}

/// Lets a random part of the time pass: deaths come at random moments.
fn live(longest: Duration) {
    std::thread::sleep(longest.mul_f64(rand::rng().random_range(0.0..1.0)));
}

fn outcome(is_counted: bool) -> Outcome {
    Outcome {
        sees: BYTES.to_owned(),
        when: IN_TIME.to_owned(),
        again: "for what is missing".to_owned(),
        counted: if is_counted { "read errors" } else { NOTHING }.to_owned(),
        remembered: NOTHING.to_owned(),
    }
}

/// A real daemon with a container, whose image fills.
struct Filling {
    node: Node,
    reference: String,
    root: PathBuf,
    truth: PathBuf,
}

impl Filling {
    fn start() -> Self {
        let settings = Settings {
            data_path: "fuse",
            log_level: "info",
            fill: RATE,
            ..Settings::default()
        };
        let node = Node::start_with(Arc::new(Scene::create().unwrap()), &settings).unwrap();
        let steady::Shown {
            reference,
            root,
            truth,
        } = steady::show(&node, LARGE_LEN, 7).unwrap();
        Filling {
            node,
            reference,
            root,
            truth,
        }
    }

    /// A number of the image.
    fn number(&self, key: &str) -> u64 {
        let image = self.node.slipwayd.image(&self.reference).unwrap().unwrap();
        image[key].as_u64().unwrap()
    }

    /// Compares some places of the large file with the truth, past the page cache.
    fn compare_some(&self) {
        let file = File::open(self.root.join(LARGE)).unwrap();
        let truth = File::open(self.truth.join(LARGE)).unwrap();
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        for _ in 0..SPANS {
            let at = rand::rng().random_range(0..LARGE_LEN - SPAN_LEN) as u64;
            let mut spans = [vec![0; SPAN_LEN], vec![1; SPAN_LEN]];
            file.read_exact_at(&mut spans[0], at).unwrap();
            truth.read_exact_at(&mut spans[1], at).unwrap();
            assert!(spans[0] == spans[1], "wrong bytes at {at}");
        }
    }

    /// Compares everything with the truth, and begins anew with an empty cache.
    fn compare_all_and_empty(&mut self) {
        compare_tree(&self.root, &self.truth);
        self.node.slipwayd.kill();
        std::fs::remove_dir_all(self.node.slipwayd.root().join("cache/v1")).unwrap();
        self.node.slipwayd.restart().unwrap();
    }
}

fn compare_tree(root: &Path, truth: &Path) {
    for entry in std::fs::read_dir(truth).unwrap() {
        let (name, kind) = entry
            .map(|entry| (entry.file_name(), entry.file_type().unwrap()))
            .unwrap();
        let (shown, right) = (root.join(&name), truth.join(&name));
        if kind.is_dir() {
            compare_tree(&shown, &right);
            continue;
        }
        let file = File::open(&shown).unwrap();
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        assert!(
            std::fs::read(&shown).unwrap() == std::fs::read(&right).unwrap(),
            "{name:?} is wrong"
        );
    }
}

fn killed_filling() -> Outcome {
    let mut filling = Filling::start();
    let (kills, longest) = limits();
    let began = Instant::now();
    let (mut count, mut complete, mut left, mut checked, mut errors) = (0, 0, 0, 0, 0);
    while count < kills && began.elapsed() < longest {
        live(FILL_LIFE_MAX);
        filling.node.slipwayd.restart().unwrap();
        count += 1;
        left += filling.number("local_bytes");
        filling.compare_some();
        checked += filling.number("checked_bytes");
        errors += filling.number("read_error_count");
        if filling.number("local_bytes") >= filling.number("needed_bytes") {
            complete += 1;
            filling.compare_all_and_empty();
        }
    }
    compare_tree(&filling.root, &filling.truth);
    let mib = |len: u64| len >> 20;
    say(&format!(
        "killed while filling: {count} times, complete {complete} times; after the kills {} MiB were there, of which {} MiB \
         were read and hashed again; 0 wrong bytes",
        mib(left),
        mib(checked)
    ));
    outcome(errors > 0)
}

fn killed_evicting() -> Outcome {
    let image: &'static Single = &MANY_CHUNKS;
    let origin = Origin::start(&image.blob).unwrap();
    let scene = Arc::new(Scene::create().unwrap());
    let dir = scene.folder("served").unwrap();
    let stage = || {
        let source = source(&origin.address().to_string());
        Stage::at(scene.clone(), &dir, &terms(), image, source)
    };
    let (kills, longest) = limits();
    let began = Instant::now();
    let (mut count, mut midway, mut left, mut checked, mut errors) = (0, 0, 0, 0, 0);
    stage().read_all().unwrap();
    while count < kills && began.elapsed() < longest {
        kill_evictor(&scene, &dir, image);
        count += 1;
        let stage = stage();
        let status = stage.served.status();
        left += status.bytes_local;
        midway += usize::from(is_midway(&status));
        stage.read_all().unwrap();
        assert_eq!(stage.read_all().unwrap(), 0, "all is there again");
        checked += stage.served.status().bytes_checked;
        errors += stage.served.status().read_errors;
    }
    let mib = |len: u64| len >> 20;
    say(&format!(
        "killed while evicting: {count} times, {midway} in the middle of it; after the kills {} MiB were there, of which {} \
         MiB were read and hashed again; 0 wrong bytes",
        mib(left),
        mib(checked)
    ));
    outcome(errors > 0)
}

/// Whether some chunks were gone and others not, or the entries of some and not their bytes.
fn is_midway(status: &ImageStatus) -> bool {
    let is_part = (1..LEN as u64).contains(&status.bytes_local);
    is_part || status.bytes_disk > status.bytes_local + SIZE_MAX
}

/// Starts a process that evicts, and kills it at some moment.
fn kill_evictor(scene: &Scene, dir: &Path, image: &Single) {
    let id = &image.blob_id;
    let data = cache_dir(dir).join("v1").join(&id[..2]).join(id).join("data");
    // What was used just now is not given up.
    let data = File::options().write(true).open(data).unwrap();
    data.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    drop(data);
    let bootstrap = scene.path("bootstrap").unwrap();
    let mut child = binaries::evictor()
        .unwrap()
        .args([&bootstrap, dir])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    said.read_line(&mut line).unwrap();
    assert_eq!(line.trim(), READY);
    live(EVICT_LIFE_MAX);
    child.kill().unwrap();
    child.wait().unwrap();
    mounts::unmount_under(dir).unwrap();
}
