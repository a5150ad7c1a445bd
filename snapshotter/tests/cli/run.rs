//! The life of a daemon: start, second daemon, sudden death, start on what is left, end. Needs root and FUSE.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fuse::mountinfo;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{failure, slipwayd, stdout};

/// How long a daemon may take to start or end on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);
/// Pause between two questions.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// A root and a run folder; what a daemon leaves mounted there ends with this.
struct Node(TempDir);

impl Node {
    fn arguments(&self) -> [String; 4] {
        let path = |name: &str| self.0.path().join(name).to_str().unwrap().to_owned();
        ["--root".into(), path("root"), "--run-dir".into(), path("run")]
    }

    fn command(&self, command: &str) -> assert_cmd::Command {
        let mut slipwayd = slipwayd(&[command]);
        slipwayd.args(self.arguments());
        slipwayd
    }

    fn fuse(&self) -> PathBuf {
        self.0.path().join("run/fs")
    }

    /// Starts a daemon and waits until it answers.
    fn start(&self) -> Daemon {
        let log = std::fs::File::create(self.0.path().join("log")).unwrap();
        let child = Command::new(assert_cmd::cargo::cargo_bin!("slipwayd"))
            .arg("run")
            .args(self.arguments())
            .stdin(Stdio::null())
            .stderr(log)
            .spawn();
        let mut daemon = Daemon(child.unwrap());
        let start = Instant::now();
        while self
            .command("status")
            .output()
            .is_ok_and(|output| !output.status.success())
        {
            let ended = daemon.0.try_wait().unwrap();
            let said = std::fs::read_to_string(self.0.path().join("log")).unwrap();
            assert!(
                ended.is_none() && start.elapsed() < DEADLINE,
                "slipwayd does not start: {said}"
            );
            std::thread::sleep(ASK_AGAIN);
        }
        daemon
    }

    /// Device numbers of what is mounted at the session's place.
    fn devices(&self) -> Vec<(u32, u32)> {
        let list = std::fs::read_to_string(mountinfo::PATH).unwrap();
        let here = mountinfo::mounts(&list).filter(|mount| mount.target == self.fuse());
        here.map(|mount| mount.device).collect()
    }

    fn is_mounted(&self) -> bool {
        !self.devices().is_empty()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        while self.is_mounted() && unmount(self.fuse(), UnmountFlags::DETACH).is_ok() {}
    }
}

/// A running daemon, killed when this is dropped.
struct Daemon(Child);

impl Daemon {
    fn end(mut self) -> i32 {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let start = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code().unwrap();
            }
            assert!(start.elapsed() < DEADLINE, "slipwayd does not end");
            std::thread::sleep(ASK_AGAIN);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_daemon_lives_dies_and_lives_again() {
    let node = Node(tempfile::tempdir().unwrap());
    let first = node.start();
    let status: serde_json::Value =
        serde_json::from_str(&stdout(node.command("status").arg("--json"))).unwrap();
    assert_eq!(status["pid"], first.0.id());
    assert_eq!(status["snapshot_count"], 0);
    assert!(status["cache"]["max_bytes"].as_u64() > status["cache"]["used_bytes"].as_u64());
    assert_eq!(stdout(node.command("images").arg("--json")), "[]\n");
    assert!(node.fuse().join("images").is_dir());
    let said = failure(&mut node.command("run"));
    assert!(
        said.contains("another slipwayd") && said.contains("hint: "),
        "{said}"
    );

    // Dropping kills it: its mount stays behind, and the next one goes on with it.
    let devices = node.devices();
    drop(first);
    assert_eq!(node.devices(), devices);
    let second = node.start();
    assert_eq!(node.devices(), devices);
    assert!(
        std::fs::read_dir(node.fuse().join("images"))
            .unwrap()
            .next()
            .is_none()
    );
    // No container stands on an image, so nothing is kept.
    assert_eq!(second.end(), 0);
    assert!(!node.is_mounted());
    let left: Vec<_> = std::fs::read_dir(node.0.path().join("run")).unwrap().collect();
    assert_eq!(left.len(), 2, "only the mount points are left: {left:?}");
}

#[test]
fn snapshots_whose_store_is_lost_are_not_deleted() {
    let node = Node(tempfile::tempdir().unwrap());
    let file = node.0.path().join("root/snapshots/7/fs/precious");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "kept").unwrap();
    std::fs::write(node.0.path().join("root/store.redb"), "").unwrap();
    let said = failure(&mut node.command("run"));
    assert!(
        said.contains("missing or empty") && said.contains("hint: "),
        "{said}"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
}
