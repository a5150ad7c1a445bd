//! Daemons that die under readers. In the ordinary suite a few times; `make crash-test` kills a thousand times.
//!
//! | variable | meaning |
//! |---|---|
//! | `SLIPWAY_CRASH_KILLS` | kills in each test |
//! | `SLIPWAY_CRASH_SECONDS` | when a test is satisfied with fewer |
//! | `SLIPWAY_CRASH_STALL_MS` | what the p99 of the stalls must stay below; not checked without it |

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use integration::containerd::SNAPSHOTTER;
use integration::image::steady;
use integration::node::{Node, Settings};
use integration::reader::{Report, Way, now};
use integration::scene::Scene;
use integration::{binaries, wait};
use rand::RngExt;
use rustix::mount::UnmountFlags;

use super::{say, setting};

/// Within this time containerd dials a socket again that refused it: its pauses grow to some seconds.
const DIAL_PATIENCE: Duration = Duration::from_secs(30);

/// Kills of a test in the ordinary suite.
const KILLS: usize = 6;
/// Seconds after which a test in the ordinary suite is satisfied.
const SECONDS: u64 = 20;
/// Bytes of the large file: more than the kernel reads ahead, little enough for a cold pass.
const LARGE_LEN: usize = 48 << 20;
/// Longest time between a daemon's return and its next death.
const LIFE_MAX: Duration = Duration::from_millis(600);
/// How long readers may take to end when they are asked to; one that takes longer hangs.
const END_DEADLINE: Duration = Duration::from_secs(60);
/// Milliseconds that a distant registry takes to answer.
const DISTANT: u64 = 20;

/// A node with a mounted container, and the truth about its tree.
pub(super) struct Stage {
    pub(super) node: Node,
    root: PathBuf,
    truth: PathBuf,
}

impl Stage {
    pub(super) fn start(tier: &'static str) -> Self {
        let scene = Arc::new(Scene::create().unwrap());
        let settings = Settings {
            data_path: tier,
            log_level: "info",
            ..Settings::default()
        };
        let node = Node::start_with(scene, &settings).unwrap();
        let steady::Shown { root, truth, .. } = steady::show(&node, LARGE_LEN, 1).unwrap();
        Stage { node, root, truth }
    }

    /// Compares the whole tree once.
    pub(super) fn reads_truly(&self) {
        let report = self.reader(Way::Walk).end().unwrap();
        assert_eq!(
            (report.error_count, report.wrong_count),
            (0, 0),
            "{:?}",
            report.told
        );
    }

    /// Mounts the container's root anew, as when the container is started again.
    pub(super) fn mount_again(&self) {
        rustix::mount::unmount(&self.root, UnmountFlags::DETACH).unwrap();
        // Where nobody listened, containerd 1.6 does not dial again for a second or more, and refuses calls meanwhile.
        let mount = || {
            self.node
                .containerd
                .mount(SNAPSHOTTER, "container", &self.root)
                .ok()
        };
        wait::until(DIAL_PATIENCE, "containerd to reach the daemon", mount).unwrap();
    }

    pub(super) fn reader(&self, way: Way) -> Reader {
        Reader::start(way, &self.root, &self.truth)
    }

    pub(super) fn readers(&self) -> Vec<Reader> {
        Way::ALL.map(|way| self.reader(way)).into()
    }
}

/// A reader at work. Dropping it kills it.
pub(super) struct Reader {
    pub(super) way: Way,
    child: Child,
}

impl Reader {
    fn start(way: Way, root: &Path, truth: &Path) -> Self {
        let mut command: Command = binaries::reader().unwrap();
        command.arg(way.name()).arg(root).arg(truth);
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Reader { way, child }
    }

    /// Asks it to end and gives its report; nothing if it was ended by a fault in mapped memory.
    pub(super) fn end(mut self) -> Option<Report> {
        drop(self.child.stdin.take());
        let stdout = self.child.stdout.take().unwrap();
        let reading = std::thread::spawn(move || std::io::read_to_string(stdout));
        let what = format!("the end of the reader {:?}, or it hangs", self.way);
        let status = wait::until(END_DEADLINE, &what, || self.child.try_wait().unwrap()).unwrap();
        let said = reading.join().unwrap().unwrap();
        status.success().then(|| serde_json::from_str(&said).unwrap())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets `die` end the daemon and bring it back again and again under four readers, none of which may notice.
pub(super) fn readers_do_not_notice(tier: &'static str, stage: &mut Stage, mut die: impl FnMut(&mut Node)) {
    let kills = setting("SLIPWAY_CRASH_KILLS", KILLS);
    let deadline = Duration::from_secs(setting("SLIPWAY_CRASH_SECONDS", SECONDS));
    let readers = stage.readers();
    let started = Instant::now();
    let mut gaps = Vec::new();
    while gaps.len() < kills && started.elapsed() < deadline {
        // Not a wait for anything: deaths come at random moments.
        std::thread::sleep(LIFE_MAX.mul_f64(rand::rng().random_range(0.0..1.0)));
        let death = now();
        die(&mut stage.node);
        gaps.push(death..now());
    }
    let reports: Vec<(Way, Report)> = readers
        .into_iter()
        .map(|reader| (reader.way, reader.end().expect("the reader lives")))
        .collect();
    for (way, report) in &reports {
        let Report {
            operation_count,
            error_count,
            wrong_count,
            ..
        } = report;
        assert_eq!((*error_count, *wrong_count), (0, 0), "{way:?}: {:?}", report.told);
        assert!(*operation_count > 0, "{way:?} did nothing");
    }
    tell(tier, &gaps, &reports);
}

/// Prints how often the daemon died, how much was read, and how long readers stood still.
fn tell(tier: &str, gaps: &[Range<u64>], reports: &[(Way, Report)]) {
    let stall = |gap: &Range<u64>| reports.iter().map(|(_, report)| report.stall(gap)).max();
    let mut stalls: Vec<u64> = gaps
        .iter()
        .filter_map(stall)
        .map(|nanos| nanos / 1_000_000)
        .collect();
    stalls.sort_unstable();
    let share = |percent: usize| stalls[(stalls.len() * percent / 100).min(stalls.len() - 1)];
    let counts: Vec<_> = reports
        .iter()
        .map(|(way, report)| format!("{} {}", way.name(), report.operation_count))
        .collect();
    say(&format!(
        "{tier}: {} times, 0 errors, 0 wrong; operations: {}; stall in ms: p50 {}, p99 {}, longest {}",
        gaps.len(),
        counts.join(", "),
        share(50),
        share(99),
        share(100),
    ));
    let limit = setting("SLIPWAY_CRASH_STALL_MS", u64::MAX);
    assert!(share(99) < limit, "readers stood still for too long");
}

fn kill(node: &mut Node) {
    node.slipwayd.restart().unwrap();
}

fn killed(tier: &'static str) {
    let mut stage = Stage::start(tier);
    readers_do_not_notice(tier, &mut stage, kill);
}

#[test]
fn killed_daemons_are_not_noticed_on_erofs() {
    killed("erofs");
}

#[test]
fn killed_daemons_are_not_noticed_on_fuse() {
    killed("fuse");
}

fn killed_while_far_away(tier: &'static str) {
    let mut stage = Stage::start(tier);
    stage.node.meter.delay(DISTANT);
    readers_do_not_notice(tier, &mut stage, kill);
}

#[test]
fn killed_daemons_with_a_distant_registry_are_not_noticed_on_erofs() {
    killed_while_far_away("erofs");
}

#[test]
fn killed_daemons_with_a_distant_registry_are_not_noticed_on_fuse() {
    killed_while_far_away("fuse");
}
