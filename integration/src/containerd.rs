//! A private containerd: own root, state and sockets, with Slipway as proxy snapshotter.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::{self, Process};
use crate::scene::Scene;

/// Name under which containerd knows the snapshotter.
pub const SNAPSHOTTER: &str = "slipway";
/// Its folder. The name is known to the scene's clearing, which finds the shims' sockets through it.
const FOLDER: &str = "containerd";
/// Its gRPC socket in its folder.
const SOCKET: &str = "containerd.sock";
/// How long containerd may take to answer.
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// What differs between private containerds.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Socket of the proxy snapshotter.
    pub snapshotter_socket: &'a Path,
    /// The image of the process that holds a pod's namespaces, when pods are wanted.
    pub pause_image: Option<&'a str>,
}

/// The gRPC socket of a scene's containerd, whether it runs or not.
pub fn socket_in(scene: &Scene) -> PathBuf {
    scene.dir().join(FOLDER).join(SOCKET)
}

/// A running containerd. Dropping it removes its tasks and kills it.
pub struct Containerd {
    dir: PathBuf,
    process: Process,
}

impl Containerd {
    /// Starts containerd and waits until it answers.
    pub fn start(scene: &Scene, options: &Options<'_>) -> Result<Self> {
        let dir = scene.folder(FOLDER)?;
        std::fs::create_dir_all(dir.join("certs.d")).context("create certs.d")?;
        std::fs::write(dir.join("config.toml"), config(&dir, options))
            .context("write containerd's configuration")?;
        let process = serve(&dir)?;
        let mut containerd = Containerd { dir, process };
        containerd.wait_ready()?;
        Ok(containerd)
    }

    /// Makes `host` (with port) reachable by plain HTTP for CRI and for `ctr --hosts-dir`.
    pub fn trust(&self, host: &str) -> Result<()> {
        let dir = self.hosts_dir().join(host);
        std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        let hosts = format!(
            "server = \"http://{host}\"\n\n[host.\"http://{host}\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
        );
        std::fs::write(dir.join("hosts.toml"), hosts).context("write hosts.toml")
    }

    /// Folder of the registries' settings.
    pub fn hosts_dir(&self) -> PathBuf {
        self.dir.join("certs.d")
    }

    /// The gRPC socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join(SOCKET)
    }

    /// Kills it unconditionally and starts it again. Containers live on.
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill();
        self.process = serve(&self.dir)?;
        self.wait_ready()
    }

    /// The `ctr` command, pointed here, in the namespace `default`.
    pub fn ctr(&self) -> Command {
        self.ctr_in("default")
    }

    /// The `ctr` command in another namespace.
    pub fn ctr_in(&self, namespace: &str) -> Command {
        let mut command = Command::new("ctr");
        command
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", namespace]);
        command
    }

    /// Pulls an image in the plain way: every layer is downloaded and unpacked into `snapshotter`.
    pub fn pull(&self, reference: &str, snapshotter: &str) -> Result<()> {
        let mut ctr = self.ctr();
        ctr.args(["images", "pull", "--snapshotter", snapshotter, "--hosts-dir"]);
        process::run(ctr.arg(self.hosts_dir()).arg(reference)).map(drop)
    }

    /// `ctr run --rm`: not started yet, so that callers choose between its output and its time.
    pub fn run_command(&self, reference: &str, snapshotter: &str, id: &str, argv: &[&str]) -> Command {
        let mut ctr = self.ctr();
        ctr.args(["run", "--rm", "--snapshotter", snapshotter, reference, id])
            .args(argv);
        ctr
    }

    /// Removes an image and waits until the garbage collection it causes is over.
    pub fn remove_image(&self, reference: &str) -> Result<()> {
        process::run(self.ctr().args(["images", "rm", "--sync", reference])).map(drop)
    }

    /// Prepares a container's snapshot `key` on the only image of a snapshotter and mounts it at `point` as containerd
    /// would. Gives the options of the mount, or nothing for a bind mount without any.
    pub fn mount_container(&self, snapshotter: &str, key: &str, point: &Path) -> Result<Vec<String>> {
        self.snapshot(snapshotter, &["prepare", key], point)
    }

    /// The same for a view, with nothing above the image.
    pub fn mount_view(&self, snapshotter: &str, key: &str, point: &Path) -> Result<Vec<String>> {
        self.snapshot(snapshotter, &["view", key], point)
    }

    fn snapshot(&self, snapshotter: &str, how: &[&str; 2], point: &Path) -> Result<Vec<String>> {
        let snapshots = || {
            let mut ctr = self.ctr();
            ctr.args(["snapshots", "--snapshotter", snapshotter]);
            ctr
        };
        let top = top_of(&process::text(snapshots().arg("ls"))?)?;
        process::run(snapshots().args(how).arg(top))?;
        self.mount(snapshotter, how[1], point)
    }

    /// Mounts a snapshot that is there at `point`, as containerd does each time a container is started.
    pub fn mount(&self, snapshotter: &str, key: &str, point: &Path) -> Result<Vec<String>> {
        let mut ctr = self.ctr();
        ctr.args(["snapshots", "--snapshotter", snapshotter, "mounts"]);
        // ctr prints the mount command for people to run.
        let command = process::text(ctr.arg(point).arg(key))?;
        process::run(Command::new("sh").args(["-ec", &command]))?;
        let mut words = command
            .split_whitespace()
            .skip_while(|word| *word != "-o")
            .skip(1);
        let options = words.next().unwrap_or_default();
        Ok(options.split(',').map(str::to_owned).collect())
    }

    fn wait_ready(&mut self) -> Result<()> {
        let socket = self.socket();
        self.process.until(READY_DEADLINE, "it answered", || {
            let mut ctr = Command::new("ctr");
            ctr.arg("--address")
                .arg(&socket)
                .args(["--connect-timeout", "1s", "version"]);
            process::run(&mut ctr).ok().map(drop)
        })
    }

    fn remove_tasks(&self) {
        for namespace in ["default", "k8s.io"] {
            let tasks = process::text(self.ctr_in(namespace).args(["tasks", "ls", "-q"])).unwrap_or_default();
            for task in tasks.lines() {
                // What is left after that is killed with the scene.
                let _ = process::run(self.ctr_in(namespace).args(["tasks", "rm", "--force", task]));
            }
        }
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.remove_tasks();
    }
}

/// The committed snapshot in the table of `ctr snapshots ls` that no other stands on.
fn top_of(listing: &str) -> Result<String> {
    // A row is: key, parent if there is one, kind.
    let rows: Vec<Vec<&str>> = listing
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect())
        .collect();
    let is_parent = |key: &str| rows.iter().any(|row| row.len() == 3 && row[1] == key);
    let mut tops = rows
        .iter()
        .filter(|row| row.last() == Some(&"Committed") && !is_parent(row[0]));
    let top = tops.next().context("no snapshot to stand on")?;
    ensure!(tops.next().is_none(), "more than one image: {listing}");
    Ok(top[0].to_owned())
}

fn serve(dir: &Path) -> Result<Process> {
    let mut command = Command::new("containerd");
    command.arg("--config").arg(dir.join("config.toml"));
    Process::start("containerd", command, &dir.join("log"))
}

/// One file for containerd 1.6 to 2.x: keys that a version does not know are ignored by it.
fn config(dir: &Path, options: &Options<'_>) -> String {
    let dir = dir.display();
    let socket = options.snapshotter_socket.display();
    let mut disabled = vec!["btrfs", "zfs", "devmapper", "aufs"]
        .into_iter()
        .map(|name| format!("\"io.containerd.snapshotter.v1.{name}\""))
        .collect::<Vec<_>>();
    disabled.push("\"io.containerd.internal.v1.tracing\"".to_owned());
    disabled.push("\"io.containerd.tracing.processor.v1.otlp\"".to_owned());
    if options.pause_image.is_none() {
        disabled.push("\"io.containerd.grpc.v1.cri\"".to_owned());
    }
    let disabled = disabled.join(", ");
    let pause = options.pause_image.unwrap_or_default();
    format!(
        r#"version = 2
root = "{dir}/root"
state = "{dir}/state"
disabled_plugins = [{disabled}]

[grpc]
  address = "{dir}/containerd.sock"

[ttrpc]
  address = "{dir}/containerd.ttrpc.sock"

[proxy_plugins.{SNAPSHOTTER}]
  type = "snapshot"
  address = "{socket}"
  [proxy_plugins.{SNAPSHOTTER}.exports]
    enable_remote_snapshot_annotations = "true"

[plugins."io.containerd.internal.v1.opt"]
  path = "{dir}/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  disable_tcp_service = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{SNAPSHOTTER}"
    disable_snapshot_annotations = false
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{dir}/certs.d"
  [plugins."io.containerd.grpc.v1.cri".cni]
    conf_dir = "{dir}/cni/conf"
    bin_dir = "{dir}/cni/bin"
"#
    )
}
