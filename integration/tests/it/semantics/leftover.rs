//! Files that an earlier process left in the cache, or somebody else did.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuse::{CacheLimits, SizeMax};
use integration::image::edge::noise;
use integration::origin::Origin;
use integration::scene::Scene;
use integration::served::{Terms, cache_dir};

use super::Case;
use super::disk::settle;
use super::outcome::{BYTES, IN_TIME, NO, NOTHING, Outcome, counted};
use super::stage::{CHUNK_LEN, Counts, IMAGE, LEN, Stage, origin, source, terms};

/// Where the version stands in a state file.
const VERSION_OFFSET: u64 = 8;
/// A limit that makes a part of the image go.
const SIZE_MAX: u64 = 8 << 20;
/// How far the clock was put back.
const DAY: Duration = Duration::from_secs(24 * 3600);

pub(super) const CASES: &[Case] = &[
    ("whole", || found(|_| {})),
    ("rotten", || {
        found(|blob| flip(&blob.join("data"), 9 * CHUNK_LEN as u64))
    }),
    ("data-cut", || {
        found(|blob| open(&blob.join("data")).set_len(LEN as u64 / 2).unwrap())
    }),
    ("data-gone", || {
        found(|blob| std::fs::remove_file(blob.join("data")).unwrap())
    }),
    ("state-cut", || {
        found(|blob| open(&blob.join("state")).set_len(5000).unwrap())
    }),
    ("state-gone", || {
        found(|blob| std::fs::remove_file(blob.join("state")).unwrap())
    }),
    ("state-foreign", || found(foreign)),
    ("state-old", || {
        found(|blob| {
            open(&blob.join("state"))
                .write_all_at(&[0], VERSION_OFFSET)
                .unwrap()
        })
    }),
    ("strangers", || found(strangers)),
    ("data-link", link),
    ("clock-put-back", clock_put_back),
];

/// A cache that was filled by a server that is no more.
struct Filled {
    scene: Arc<Scene>,
    dir: PathBuf,
    origin: Origin,
}

impl Filled {
    fn new() -> Self {
        let scene = Arc::new(Scene::create().unwrap());
        let dir = scene.folder("served").unwrap();
        let filled = Filled {
            scene,
            dir,
            origin: origin(),
        };
        filled.stage(&terms()).read_all().unwrap();
        filled
    }

    fn stage(&self, terms: &Terms) -> Stage {
        let source = source(&self.origin.address().to_string());
        Stage::at(self.scene.clone(), &self.dir, terms, &IMAGE, source)
    }

    /// The folder of the blob.
    fn blob(&self) -> PathBuf {
        let id = &IMAGE.blob_id;
        cache_dir(&self.dir).join("v1").join(&id[..2]).join(id)
    }
}

/// What becomes of a cache to whose blob something was done.
fn found(change: fn(&Path)) -> Outcome {
    let filled = Filled::new();
    change(&filled.blob());
    let stage = filled.stage(&terms());
    let before = stage.counts();
    let fetched = stage.read_all().unwrap();
    let outcome = judge(&stage, &before, fetched);
    assert_eq!(stage.read_all().unwrap(), 0, "it is kept again");
    outcome
}

/// An outcome for readers who got their bytes, and cost the source so many.
fn judge(stage: &Stage, before: &Counts, fetched: u64) -> Outcome {
    let after = stage.counts();
    let again = match fetched {
        0 => NO,
        fetched if fetched < LEN as u64 => "for what is missing",
        _ => "for all of it",
    };
    Outcome {
        sees: BYTES.to_owned(),
        when: IN_TIME.to_owned(),
        again: again.to_owned(),
        counted: counted((&before.0, &before.1), (&after.0, &after.1)),
        remembered: NOTHING.to_owned(),
    }
}

/// Bytes of another program, as many as there were.
fn foreign(blob: &Path) {
    let state = blob.join("state");
    let len = state.metadata().unwrap().len();
    std::fs::write(&state, noise(usize::try_from(len).unwrap(), 3)).unwrap();
}

/// What is no blob's is left alone.
fn strangers(blob: &Path) {
    let version = blob.ancestors().nth(2).unwrap();
    let old = version.with_file_name("v0");
    std::fs::create_dir(&old).unwrap();
    for stray in [
        old.join("x"),
        version.join("x"),
        blob.join("x"),
        version.join("ff"),
    ] {
        std::fs::write(stray, "not ours").unwrap();
    }
}

/// A link instead of the data is neither followed nor replaced.
fn link() -> Outcome {
    let filled = Filled::new();
    let (data, other) = (filled.blob().join("data"), filled.scene.dir().join("other"));
    std::fs::remove_file(&data).unwrap();
    std::fs::write(&other, vec![7; LEN]).unwrap();
    std::os::unix::fs::symlink(&other, &data).unwrap();
    let stage = filled.stage(&terms());
    let before = stage.counts();
    stage.read_all().unwrap();
    let fetched = stage.read_all().unwrap();
    let mut outcome = judge(&stage, &before, fetched);
    outcome.again = if fetched > 0 { "each time" } else { NO }.to_owned();
    // Adding the image is what failed.
    outcome.counted = match stage.counts().1.write_errors {
        0 => NOTHING,
        _ => "write errors",
    }
    .to_owned();
    assert!(std::fs::read(&other).unwrap() == vec![7; LEN]);
    std::fs::remove_file(&data).unwrap();
    settle(&stage);
    outcome
}

/// What was written tomorrow is evicted all the same when there is too much.
fn clock_put_back() -> Outcome {
    let filled = Filled::new();
    let data = open(&filled.blob().join("data"));
    data.set_modified(SystemTime::now() + DAY).unwrap();
    drop(data);
    let stage = filled.stage(&Terms {
        limits: CacheLimits {
            size_max: SizeMax::Bytes(SIZE_MAX),
            free_min: 0,
        },
        ..terms()
    });
    let before = stage.counts();
    let server = stage.served.server();
    assert!(server.trim(&[integration::served::ID]).unwrap() > 0);
    assert!(server.cache_meter().status().bytes_used <= SIZE_MAX);
    let mut outcome = judge(&stage, &before, 0);
    outcome.again = match stage.read_all().unwrap() {
        0 => NO,
        _ => "for what is missing",
    }
    .to_owned();
    outcome
}

fn open(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

fn flip(path: &Path, at: u64) {
    let file = open(path);
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}
