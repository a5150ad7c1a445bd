//! The service with a private containerd and a private registry around it; all ends with the test.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::Harness;

/// How long a program may take to answer on a busy machine.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// Pause between two questions.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// A node. Fields are dropped in this order: containerd, before the service it uses.
pub(crate) struct Node {
    _containerd: Daemon,
    _registry: Daemon,
    pub(crate) harness: Harness,
    pub(crate) port: u16,
    dir: PathBuf,
}

impl Node {
    pub(crate) async fn start() -> Self {
        let harness = Harness::start().await;
        let dir = harness.dir.path().join("node");
        std::fs::create_dir(&dir).unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        std::fs::write(dir.join("registry.yml"), registry_config(&dir, port)).unwrap();
        let socket = harness.dir.path().join("run/slipwayd.sock");
        std::fs::write(dir.join("containerd.toml"), containerd_config(&dir, &socket)).unwrap();
        let registry = Daemon::start(&dir, "docker-registry", &["serve", "registry.yml"]);
        let containerd = Daemon::start(&dir, "containerd", &["--config", "containerd.toml"]);
        let node = Self {
            _containerd: containerd,
            _registry: registry,
            harness,
            port,
            dir,
        };
        let answers = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        wait("the registry", answers).await;
        let socket = node.containerd_socket();
        wait("containerd", || {
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        })
        .await;
        node
    }

    pub(crate) fn containerd_socket(&self) -> PathBuf {
        self.dir.join("containerd.sock")
    }

    pub(crate) fn reference(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }

    /// Runs `ctr` and returns what it printed.
    pub(crate) async fn ctr(&self, arguments: &[&str]) -> String {
        let output = tokio::process::Command::new("ctr")
            .arg("--address")
            .arg(self.containerd_socket())
            .args(arguments)
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "ctr {arguments:?}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        said
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Shims outlive containerd on purpose; they and what they mounted name the folder.
        kill_all_that_name(&self.dir);
        unmount_all_under(&self.dir);
    }
}

/// A child process, killed when this is dropped.
struct Daemon(Child);

impl Daemon {
    fn start(dir: &Path, program: &str, arguments: &[&str]) -> Self {
        let log = std::fs::File::create(dir.join(format!("{program}.log"))).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        Self(child.unwrap_or_else(|error| panic!("cannot start {program}: {error}")))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn wait(what: &str, answers: impl Fn() -> bool) {
    let start = Instant::now();
    while !answers() {
        assert!(start.elapsed() < READY_DEADLINE, "{what} does not answer");
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

fn kill_all_that_name(dir: &Path) {
    let dir = dir.to_string_lossy();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let command_line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
            .and_then(Pid::from_raw);
        if let Some(pid) = pid
            && String::from_utf8_lossy(&command_line).contains(&*dir)
        {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn unmount_all_under(dir: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for mount in mounts.lines().rev().filter_map(|line| line.split(' ').nth(4)) {
        if Path::new(mount).starts_with(dir) {
            let _ = unmount(mount, UnmountFlags::DETACH);
        }
    }
}

fn registry_config(dir: &Path, port: u16) -> String {
    let storage = dir.join("registry");
    format!(
        "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n",
        storage.display()
    )
}

fn containerd_config(dir: &Path, snapshotter: &Path) -> String {
    let dir = dir.display();
    format!(
        r#"version = 2
root = "{dir}/root"
state = "{dir}/state"
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "{dir}/containerd.sock"
[ttrpc]
  address = "{dir}/containerd.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{dir}/opt"
[proxy_plugins.slipway]
  type = "snapshot"
  address = "{}"
"#,
        snapshotter.display()
    )
}
