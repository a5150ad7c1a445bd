//! Many images at once, and many one after the other: right content, bounded memory, nothing that stays.
//!
//! `SLIPWAY_SCALE_IMAGES` and `SLIPWAY_SCALE_CYCLES` set other numbers than those of the ordinary suite.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use integration::client::Client;
use integration::erofs::bootstrap_of;
use integration::image::steady;
use integration::mounts;
use integration::registry::Registry;
use integration::scene::Scene;
use integration::slipway::{convert, oci};
use integration::slipwayd::{Settings, Slipwayd};

use super::{say, setting};

/// Images with different content; more mounts than that show one of them again, under another number.
const KINDS: usize = 6;
/// Bytes of each image's large file.
const LARGE_LEN: usize = 600_000;
/// Images at once in the ordinary suite.
const IMAGES: usize = 60;
/// Images one after the other in the ordinary suite.
const CYCLES: usize = 40;
/// Parts of all cycles: in the first the daemon takes what it keeps for ever, the next is compared with the last.
const PARTS: usize = 3;
/// KiB of memory that a daemon may take, alone and for each image.
const ALONE_KIB: u64 = 40 << 10;
const IMAGE_KIB: u64 = 205;
/// Connections to the registry that may be open or not.
const CONNECTIONS: usize = 4;
/// KiB by which a daemon's heap may be larger after cycles that leave nothing: its allocator's freedom.
const LEAK_KIB: u64 = 4 << 10;

/// A converted image in the registry.
struct Kind {
    reference: String,
    bootstrap: Vec<u8>,
    truth: PathBuf,
}

/// Descriptors and mounts of a daemon, and its memory: all and heap alone, in KiB.
type State = ((usize, usize), (u64, u64));

struct Stage {
    client: Client,
    slipwayd: Slipwayd,
    kinds: Vec<Kind>,
    _registry: Registry,
    _scene: Arc<Scene>,
}

impl Stage {
    fn start(tier: &'static str) -> Self {
        let scene = Arc::new(Scene::create().unwrap());
        let registry = Registry::start(&scene).unwrap();
        let kinds = (0..KINDS).map(|number| kind(&scene, &registry, number)).collect();
        let settings = Settings {
            data_path: tier,
            log_level: "info",
            ..Settings::default()
        };
        let slipwayd = Slipwayd::start(&scene, &settings).unwrap();
        Stage {
            client: Client::connect(&slipwayd.socket()).unwrap(),
            slipwayd,
            kinds,
            _registry: registry,
            _scene: scene,
        }
    }

    /// Loads an image and prepares a container on it; gives what it should show and where it does.
    fn show(&self, number: usize) -> (&Path, PathBuf) {
        let kind = &self.kinds[number % KINDS];
        let image = format!("image {number}");
        self.client
            .load(&image, &kind.reference, &kind.bootstrap)
            .unwrap();
        let folder = self
            .client
            .container(&format!("container {number}"), &image)
            .unwrap();
        (&kind.truth, folder)
    }

    fn hide(&self, number: usize) {
        self.client.remove(&format!("container {number}")).unwrap();
        self.client.remove(&format!("image {number}")).unwrap();
        self.client.cleanup().unwrap();
    }

    /// Descriptors and mounts of the daemon, and its memory: all and heap alone, in KiB.
    fn state(&self) -> State {
        let process = PathBuf::from(format!("/proc/{}", self.slipwayd.id()));
        let descriptors = process.join("fd").read_dir().unwrap().count();
        let status = std::fs::read_to_string(process.join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
        };
        let mounts = mounts::under(self.slipwayd.dir()).unwrap().len();
        ((descriptors, mounts), (field("VmRSS:"), field("RssAnon:")))
    }
}

fn kind(scene: &Scene, registry: &Registry, number: usize) -> Kind {
    let folder = |name: &str| scene.dir().join(format!("{name}-{number}"));
    let (layout, truth, converted) = (folder("layout"), folder("truth"), folder("converted"));
    steady::make(&layout, &truth, LARGE_LEN, 1000 * number as u64).unwrap();
    convert(&oci(&layout, steady::TAG), &oci(&converted, steady::TAG)).unwrap();
    let reference = registry.reference(&format!("kind-{number}:1"));
    // The same bytes again, since conversion is deterministic.
    convert(&oci(&layout, steady::TAG), &format!("docker://{reference}")).unwrap();
    Kind {
        reference,
        bootstrap: bootstrap_of(&converted, steady::TAG).unwrap(),
        truth,
    }
}

/// Compares every file's content.
fn same_content(truth: &Path, shown: &Path) {
    for entry in truth.read_dir().unwrap() {
        let entry = entry.unwrap();
        let path = shown.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            same_content(&entry.path(), &path);
        } else {
            assert!(
                std::fs::read(&path).unwrap() == std::fs::read(entry.path()).unwrap(),
                "{} is wrong",
                path.display()
            );
        }
    }
}

fn many_at_once(tier: &'static str) {
    let stage = Stage::start(tier);
    let count = setting("SLIPWAY_SCALE_IMAGES", IMAGES);
    let shown: Vec<_> = (0..count).map(|number| stage.show(number)).collect();
    for (truth, folder) in &shown {
        same_content(truth, folder);
    }
    let ((descriptors, mounts), (memory, heap)) = stage.state();
    say(&format!(
        "{tier}: {count} images at once: {memory} KiB ({heap} of them heap), {descriptors} descriptors, {mounts} mounts"
    ));
    let limit = ALONE_KIB + IMAGE_KIB * count as u64;
    // A program that is not optimised has more code in memory than a whole daemon may take.
    let counted = if cfg!(debug_assertions) { heap } else { memory };
    assert!(counted <= limit, "{counted} KiB, at most {limit}");
}

#[test]
fn many_images_at_once_on_erofs() {
    many_at_once("erofs");
}

#[test]
fn many_images_at_once_on_fuse() {
    many_at_once("fuse");
}

fn one_after_the_other(tier: &'static str) {
    let stage = Stage::start(tier);
    let count = setting("SLIPWAY_SCALE_CYCLES", CYCLES);
    let mut states = Vec::new();
    for number in 0..count {
        let (truth, folder) = stage.show(number);
        if number % KINDS == 0 {
            same_content(truth, &folder);
        }
        stage.hide(number);
        states.push(stage.state());
    }
    // The least of many: buffers and connections come and go.
    let least = |states: &[State]| {
        let mounts = states.iter().map(|((_, mounts), _)| *mounts).min();
        let descriptors = states.iter().map(|((descriptors, _), _)| *descriptors).min();
        let heap = states.iter().map(|(_, (_, heap))| *heap).min();
        (descriptors.unwrap(), mounts.unwrap(), heap.unwrap())
    };
    let part = count / PARTS;
    let (before, after) = (least(&states[part..2 * part]), least(&states[2 * part..]));
    say(&format!(
        "{tier}: {count} images one after the other: descriptors, mounts and KiB of heap in the second third {before:?}, in the \
         last {after:?}"
    ));
    assert!(
        after.0 <= before.0 + CONNECTIONS,
        "descriptors: {} before, {} after",
        before.0,
        after.0
    );
    assert_eq!(before.1, after.1, "mounts");
    assert!(
        after.2 <= before.2 + LEAK_KIB,
        "{} KiB, then {}",
        before.2,
        after.2
    );
}

#[test]
fn images_that_come_and_go_leave_nothing_on_erofs() {
    one_after_the_other("erofs");
}

#[test]
fn images_that_come_and_go_leave_nothing_on_fuse() {
    one_after_the_other("fuse");
}
