//! A cache whose disk is full, has no inodes left, takes no writes, or loses what it took.

use std::ffi::CString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use integration::origin::Origin;
use integration::scene::Scene;
use integration::{process, wait};
use rustix::fs::Advice;
use rustix::mount::{MountFlags, UnmountFlags};

use super::Case;
use super::outcome::{BYTES, IN_TIME, NO, NOTHING, Outcome, counted};
use super::stage::{Counts, IMAGE, Stage, origin, source, terms};

/// How long a disk that is better may go unnoticed.
const RECOVERY: Duration = Duration::from_secs(60);

pub(super) const CASES: &[Case] = &[
    ("disk-full", full),
    ("disk-without-inodes", without_inodes),
    ("disk-read-only", read_only),
    ("disk-error", loses),
    ("disk-in-the-way", in_the_way),
];

/// A node whose cache is on a disk of its own.
struct Ground {
    scene: Arc<Scene>,
    dir: PathBuf,
    cache: PathBuf,
    origin: Origin,
}

impl Ground {
    fn new() -> Self {
        let scene = Arc::new(Scene::create().unwrap());
        let dir = scene.folder("served").unwrap();
        Ground {
            cache: scene.folder("served/cache").unwrap(),
            scene,
            dir,
            origin: origin(),
        }
    }

    /// Lets the cache be on a file system of limited size in memory.
    fn on_memory(self, options: &str) -> Self {
        mount_memory(&self.cache, options);
        self
    }

    fn stage(&self) -> Stage {
        Stage::empty(self.scene.clone(), &self.dir, &terms())
    }

    fn add(&self, stage: &Stage) {
        stage.add(source(&self.origin.address().to_string()));
    }

    fn change(&self, options: &str) {
        remount(&self.cache, options);
    }

    /// Adds the image, reads it twice on the bad disk, mends that, and reads until everything is kept.
    fn play(&self, stage: &Stage, mend: impl FnOnce()) -> Outcome {
        let before = stage.counts();
        self.add(stage);
        stage.read_all().unwrap();
        let again = stage.read_all().unwrap();
        let outcome = judge(stage, &before, again);
        mend();
        settle(stage);
        outcome
    }
}

/// An outcome for readers who got their bytes, and then cost the source so many.
fn judge(stage: &Stage, before: &Counts, again: u64) -> Outcome {
    let after = stage.counts();
    Outcome {
        sees: BYTES.to_owned(),
        when: IN_TIME.to_owned(),
        again: if again > 0 { "each time" } else { NO }.to_owned(),
        counted: counted((&before.0, &before.1), (&after.0, &after.1)),
        remembered: NOTHING.to_owned(),
    }
}

/// Reads until nothing has to be fetched for it any more.
pub(super) fn settle(stage: &Stage) {
    let kept = || (stage.read_all().unwrap() == 0).then_some(());
    wait::until(RECOVERY, "everything to be kept", kept).unwrap();
}

fn full() -> Outcome {
    let ground = Ground::new().on_memory("size=4m");
    let stage = ground.stage();
    ground.play(&stage, || ground.change("size=64m"))
}

fn without_inodes() -> Outcome {
    let ground = Ground::new().on_memory("size=64m");
    let stage = ground.stage();
    ground.change("nr_inodes=3");
    ground.play(&stage, || ground.change("nr_inodes=100"))
}

fn read_only() -> Outcome {
    let ground = Ground::new();
    let stage = ground.stage();
    let folder = ground.cache.join("v1");
    let mut bind = Command::new("mount");
    process::run(bind.args(["-o", "bind"]).args([&folder, &folder])).unwrap();
    remount(&folder, "bind,ro");
    ground.play(&stage, || {
        rustix::mount::unmount(&folder, UnmountFlags::DETACH).unwrap();
    })
}

/// An ext4 on a loop device, which says I/O error for what its own disk has no room for.
fn loses() -> Outcome {
    let ground = Ground::new();
    let under = ground.scene.folder("under").unwrap();
    mount_memory(&under, "size=3m");
    let image = under.join("image");
    File::create(&image).unwrap().set_len(64 << 20).unwrap();
    let options = "lazy_itable_init=0,nodiscard";
    let mut make = Command::new("mkfs.ext4");
    make.args(["-q", "-O", "^has_journal", "-E", options]);
    process::run(make.arg(&image)).unwrap();
    let mut mount = Command::new("mount");
    mount.args(["-o", "loop,errors=continue"]);
    process::run(mount.arg(&image).arg(&ground.cache)).unwrap();
    let stage = ground.stage();
    ground.add(&stage);
    let id = &IMAGE.blob_id;
    let data = ground.cache.join("v1").join(&id[..2]).join(id).join("data");
    let data = File::open(data).unwrap();
    // Written back, as far as the disk takes it, and no longer in memory.
    let write_back = || {
        rustix::fs::sync();
        rustix::fs::fadvise(&data, 0, None, Advice::DontNeed).unwrap();
    };
    let before = stage.counts();
    let mut again = 0;
    for _ in 0..4 {
        again = stage.read_all().unwrap();
        write_back();
    }
    let outcome = judge(&stage, &before, again);
    remount(&under, "size=128m");
    let kept = || {
        write_back();
        (stage.read_all().unwrap() == 0).then_some(())
    };
    wait::until(RECOVERY, "everything to be kept", kept).unwrap();
    drop(data);
    outcome
}

/// There is a file where the folder of the blob should be.
fn in_the_way() -> Outcome {
    let ground = Ground::new();
    let stage = ground.stage();
    let shelf = ground.cache.join("v1").join(&IMAGE.blob_id[..2]);
    std::fs::write(&shelf, "not a folder").unwrap();
    ground.play(&stage, || std::fs::remove_file(&shelf).unwrap())
}

fn mount_memory(dir: &Path, options: &str) {
    let options = CString::new(options).unwrap();
    rustix::mount::mount(
        "none",
        dir,
        "tmpfs",
        MountFlags::empty(),
        Some(options.as_c_str()),
    )
    .unwrap();
}

fn remount(dir: &Path, options: &str) {
    let mut mount = Command::new("mount");
    mount.args(["-o", &format!("remount,{options}")]);
    process::run(mount.arg(dir)).unwrap();
}
