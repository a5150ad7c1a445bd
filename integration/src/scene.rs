//! The stage of one test: a folder of its own, and the promise that nothing of it stays behind.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal};

use crate::{mounts, wait};

/// Stages are named `slipway-it.<pid of the owner>.<random>`.
const PREFIX: &str = "slipway-it.";
/// How long killed processes may take to be gone.
const KILL_DEADLINE: Duration = Duration::from_secs(20);
/// Magic numbers (statfs) of file systems on which the chunk cache can lie: ext4, xfs, btrfs.
const DISK_FILE_SYSTEMS: [i64; 3] = [0xef53, 0x5846_5342, 0x9123_683e];

/// A private folder. Dropping it kills every process that names the folder in its command line (with all its
/// descendants, containers too), unmounts everything under it and removes it.
pub struct Scene {
    dir: PathBuf,
}

impl Scene {
    /// Creates the folder under the default temporary one. Also clears what dead owners left behind.
    pub fn create() -> Result<Self> {
        let base = std::env::temp_dir();
        sweep_orphans(&base)?;
        let dir = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{}.", std::process::id()))
            .rand_bytes(6)
            .tempdir_in(&base)
            .with_context(|| format!("create a folder in {}", base.display()))?;
        let scene = Scene { dir: dir.keep() };
        scene.require_disk()?;
        Ok(scene)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path in the folder, whose parent is made.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        let parent = path.parent().context("a scene's path has a parent")?;
        std::fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        Ok(path)
    }

    /// A new folder in the folder.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        std::fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(path)
    }

    /// A name that no other scene has at the same time, fit for container ids.
    pub fn unique(&self, name: &str) -> String {
        let own = self.dir.file_name().unwrap_or_default().to_string_lossy();
        format!("{name}-{}", own.trim_start_matches(PREFIX).replace('.', "-"))
    }

    fn require_disk(&self) -> Result<()> {
        let found = rustix::fs::statfs(&self.dir)
            .context("ask for the kind of file system")?
            .f_type;
        ensure!(
            DISK_FILE_SYSTEMS.contains(&found),
            "{} is on a file system (magic {found:#x}) that cannot hold the chunk cache\n\
             hint: set TMPDIR to a folder on ext4, xfs or btrfs",
            self.dir.display()
        );
        Ok(())
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Err(error) = clear(&self.dir) {
            let _ = writeln!(
                std::io::stderr(),
                "cannot clear {}: {error:#}",
                self.dir.display()
            );
        }
    }
}

/// Kills the processes of a scene, unmounts what is under its folder and removes the folder.
pub fn clear(dir: &Path) -> Result<()> {
    kill_all(dir)?;
    let sockets = shim_sockets(dir);
    mounts::unmount_under(dir)?;
    for socket in sockets {
        let _ = std::fs::remove_file(socket);
    }
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Clears the scenes whose owners were killed before they could do it.
fn sweep_orphans(base: &Path) -> Result<()> {
    let entries = std::fs::read_dir(base).with_context(|| format!("list {}", base.display()))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split('.').next());
        let Some(owner) = owner.and_then(|owner| owner.parse::<u32>().ok()) else {
            continue;
        };
        if !Path::new("/proc").join(owner.to_string()).exists() {
            // Another process may be clearing the same one: whoever loses that race finds nothing left to do.
            let _ = clear(&entry.path());
        }
    }
    Ok(())
}

/// Kills whatever names `dir` in its command line, and all descendants, until nothing is left.
fn kill_all(dir: &Path) -> Result<()> {
    let gone = wait::until(KILL_DEADLINE, "killed processes to be gone", || {
        let doomed = processes_of(dir);
        for pid in &doomed {
            let _ = rustix::process::kill_process(*pid, Signal::KILL);
        }
        doomed.is_empty().then_some(())
    });
    if gone.is_err() {
        bail!("still running: {:?}", processes_of(dir));
    }
    Ok(())
}

/// Live processes (not zombies) that name `dir`, with all their descendants; never this process.
fn processes_of(dir: &Path) -> HashSet<Pid> {
    let dir = dir.as_os_str().as_encoded_bytes();
    let me = rustix::process::getpid();
    let mut parents = Vec::new();
    let mut doomed = HashSet::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
            .and_then(Pid::from_raw)
        else {
            continue;
        };
        let Some(parent) = live_parent(&entry.path()) else {
            continue;
        };
        parents.push((pid, parent));
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if pid != me && command.windows(dir.len()).any(|window| window == dir) {
            doomed.insert(pid);
        }
    }
    loop {
        let children = parents
            .iter()
            .filter(|(pid, parent)| *pid != me && doomed.contains(parent));
        let before = doomed.len();
        let children: Vec<Pid> = children.map(|(pid, _)| *pid).collect();
        doomed.extend(children);
        if doomed.len() == before {
            return doomed;
        }
    }
}

/// Parent of a process from its `/proc` folder; nothing for zombies, kernel threads' parent and processes just gone.
fn live_parent(proc_dir: &Path) -> Option<Pid> {
    let stat = std::fs::read_to_string(proc_dir.join("stat")).ok()?;
    // The name in parentheses may hold anything, so fields are counted after the last parenthesis.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    Pid::from_raw(fields.next()?.parse().ok()?)
}

/// Sockets that containerd's shims keep outside of the state folder; their paths stand in the bundles.
fn shim_sockets(dir: &Path) -> Vec<PathBuf> {
    let mut sockets = Vec::new();
    let tasks = dir.join("containerd/state/io.containerd.runtime.v2.task");
    let namespaces = std::fs::read_dir(tasks).into_iter().flatten().flatten();
    for namespace in namespaces {
        for bundle in std::fs::read_dir(namespace.path())
            .into_iter()
            .flatten()
            .flatten()
        {
            let address = std::fs::read_to_string(bundle.path().join("address")).unwrap_or_default();
            if let Some(path) = address.trim().strip_prefix("unix://") {
                sockets.push(PathBuf::from(path));
            }
        }
    }
    sockets
}
