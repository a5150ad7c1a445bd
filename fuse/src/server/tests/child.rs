//! Tests that take a process of their own: one to be killed, one to be weighed. The process is this very program,
//! told to run one of the ignored tests below.

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rafs::Tree;
use rustix::mount::UnmountFlags;

use super::*;
use crate::fixture::{Builder, CHUNK_LEN, FakeSource, Fixture, mode, noise};

/// Tells a child which folder it works in.
pub(super) const DIR: &str = "SLIPWAY_TEST_DIR";

/// A child that serves `<dir>/bootstrap` at `<dir>/mnt`. Dropping it kills it and clears its mount.
struct Serving {
    child: Child,
    mountpoint: PathBuf,
}

fn run(test: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let test = format!("server::tests::child::{test}");
    command
        .args(["--exact", &test, "--ignored", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::null());
    command
}

impl Serving {
    fn start(dir: &Path, shown: &str) -> Self {
        let mountpoint = dir.join("mnt");
        std::fs::create_dir_all(&mountpoint).unwrap();
        let child = run("serve_until_killed", dir).spawn().unwrap();
        let serving = Serving { child, mountpoint };
        eventually(|| serving.mountpoint.join(shown).exists());
        serving
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let unmounted = rustix::mount::unmount(&self.mountpoint, UnmountFlags::DETACH);
        assert!(unmounted.is_ok() || std::thread::panicking(), "{unmounted:?}");
    }
}

#[test]
#[ignore = "a child of other tests, which tell it where to work"]
fn serve_until_killed() {
    let dir = PathBuf::from(std::env::var_os(DIR).expect("run by another test"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = config_in(&dir, DataPath::Auto);
    let image = ImageSpec {
        id: ImageId(1),
        bootstrap: dir.join("bootstrap"),
        source: source_in(&dir),
    };
    let _server = Server::mount_image(&config, runtime.handle().clone(), image).unwrap();
    loop {
        std::thread::park();
    }
}

/// Puts what a child serves into its folder.
pub(super) fn lay_out(fixture: &Fixture) -> &Path {
    let dir = fixture.dir.path();
    std::fs::write(dir.join("blob"), &fixture.blob).unwrap();
    std::fs::write(dir.join("id"), &fixture.blob_id).unwrap();
    dir
}

/// How a child serves from its folder.
pub(super) fn config_in(dir: &Path, data_path: DataPath) -> ServerConfig {
    ServerConfig {
        mountpoint: dir.join("mnt"),
        cache_dir: dir.join("cache"),
        cache_limits: CacheLimits::default(),
        erofs_dir: dir.join("erofs"),
        data_path,
        threads: 2,
        read_deadline: DEADLINE,
    }
}

/// The source of what [`lay_out`] put into a child's folder.
pub(super) fn source_in(dir: &Path) -> Arc<FakeSource> {
    let blob = std::fs::read(dir.join("blob")).unwrap();
    let id = std::fs::read_to_string(dir.join("id")).unwrap();
    FakeSource::of([(id, blob.into())].into())
}

#[test]
fn killed_servers_leave_a_cache_that_tells_no_lies() {
    const LEN: usize = 24 << 20;
    const READ_LEN: usize = 3 * CHUNK_LEN / 2;
    let mut builder = Builder::new();
    let content = noise(LEN, 5);
    builder.file(Tree::ROOT, "big", mode(0o644), &content);
    let fixture = builder.finish();
    let dir = lay_out(&fixture);
    for round in 1..=4 {
        let serving = Serving::start(dir, "big");
        let file = serving.mountpoint.join("big");
        let (is_over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for reader in 0..4 {
                let (file, content, is_over, served) = (&file, &content, &is_over, &served);
                scope.spawn(move || {
                    let file = std::fs::File::open(file).unwrap();
                    let mut bytes = vec![0; READ_LEN];
                    for step in 0.. {
                        let offset = (step * 7919 + reader * 104_729) * CHUNK_LEN % (LEN - READ_LEN);
                        match file.read_exact_at(&mut bytes, offset as u64) {
                            Ok(()) => assert_eq!(bytes, content[offset..][..READ_LEN], "at {offset}"),
                            // Only the end of the server may be seen.
                            Err(_) => {
                                eventually(|| is_over.load(Ordering::SeqCst));
                                break;
                            }
                        }
                        served.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            // In the middle of it, later each time.
            eventually(|| served.load(Ordering::SeqCst) > round * 50);
            is_over.store(true, Ordering::SeqCst);
            drop(serving);
        });
    }
    let serving = Serving::start(dir, "big");
    assert!(std::fs::read(serving.mountpoint.join("big")).unwrap() == content);
}

/// Directories of the large image, and names in each.
const LARGE: (usize, usize) = (500, 1000);

#[test]
#[ignore = "a child of another test, which tells it where to work"]
fn write_a_large_image() {
    let dir = PathBuf::from(std::env::var_os(DIR).expect("run by another test"));
    let mut builder = Builder::new();
    for parent in 0..LARGE.0 {
        let parent = builder.dir(Tree::ROOT, format!("directory-{parent:04}"));
        for name in 0..LARGE.1 {
            builder.file(parent, format!("file-{name:06}"), mode(0o644), b"");
        }
    }
    builder.file(Tree::ROOT, "one", mode(0o644), b"content");
    let fixture = builder.finish();
    for name in ["blob", "id", "bootstrap"] {
        std::fs::copy(lay_out(&fixture).join(name), dir.join(name)).unwrap();
    }
}

/// Memory of a process that is not a file's, in bytes.
fn private_len(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib: u64 = line.unwrap().trim().trim_end_matches(" kB").parse().unwrap();
    kib << 10
}

fn count(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap();
    let counts = entries.map(|entry| {
        let entry = entry.unwrap();
        match entry.metadata().unwrap().is_dir() {
            true => 1 + count(&entry.path()),
            false => 1,
        }
    });
    counts.sum()
}

#[test]
fn half_a_million_inodes_cost_next_to_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let written = run("write_a_large_image", dir.path()).status().unwrap();
    assert!(written.success());
    let serving = Serving::start(dir.path(), "one");
    let before = private_len(serving.child.id());
    let inodes = LARGE.0 * (LARGE.1 + 1) + 1;
    assert_eq!(count(&serving.mountpoint), inodes);
    let after = private_len(serving.child.id());
    let figures = format!("{inodes} inodes: {before} bytes of memory when mounted, {after} after a walk");
    writeln!(std::io::stderr(), "{figures}").unwrap();
    // A node may serve many such images: what the daemon keeps must not grow with what was looked at.
    assert!(after < before + 100 * inodes as u64, "{figures}");
}
