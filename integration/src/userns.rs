//! A user namespace, and root file systems with ids that it maps, mounted as containerd 2.1 and later mount them.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proto::snapshots::Mount;
use rustix::fs::CWD;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, mount, move_mount, open_tree};

use crate::wait;

/// What a process may take to get into a new namespace.
const PATIENCE: Duration = Duration::from_secs(60);

/// A user namespace, held by a process that sleeps in it. Dropping it ends that process.
pub struct UserNamespace {
    holder: Child,
    mapping: String,
}

impl UserNamespace {
    /// Makes a namespace whose ids from 0 on are those of the node from `first` on.
    pub fn start(first: u32, count: u32) -> Result<Self> {
        let holder = Command::new("unshare")
            .args(["--user", "sleep", "infinity"])
            .stdout(Stdio::null())
            .spawn()
            .context("start a process in a user namespace")?;
        let namespace = UserNamespace {
            holder,
            mapping: format!("0:{first}:{count}"),
        };
        let own = fs::read_link("/proc/self/ns/user").context("look at the own namespace")?;
        wait::until(PATIENCE, "a process to be in its namespace", || {
            (fs::read_link(namespace.proc("ns/user")).ok()? != own).then_some(())
        })?;
        for map in ["uid_map", "gid_map"] {
            fs::write(namespace.proc(map), namespace.mapping.replace(':', " ")).context("map ids")?;
        }
        Ok(namespace)
    }

    /// The mapping, as labels have it.
    pub fn mapping(&self) -> &str {
        &self.mapping
    }

    /// A command that runs as root of the namespace, in the node's file system.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--user={}", self.proc("ns/user").display()));
        command.args(["--setuid", "0", "--setgid", "0", program]);
        command
    }

    /// Mounts an overlay at `point`, with ids mapped as its options say. `dir` is a folder for what has to be mounted
    /// below it.
    pub fn mount_overlay(&self, list: &[Mount], dir: &Path, point: &Path) -> Result<()> {
        let [overlay] = list else {
            anyhow::bail!("one mount is expected: {list:?}");
        };
        ensure!(overlay.r#type == "overlay", "an overlay is expected: {list:?}");
        let mut options = Vec::new();
        for option in &overlay.options {
            match option.split_once('=') {
                Some(("lowerdir", lower)) => {
                    let lower = self.map_lower(Path::new(lower), dir)?;
                    options.push(format!("lowerdir={}", lower.display()));
                }
                Some(("uidmap" | "gidmap", mapping)) => {
                    ensure!(mapping == self.mapping, "another mapping: {mapping}");
                }
                _ => options.push(option.clone()),
            }
        }
        let options = CString::new(options.join(",")).context("options without NUL")?;
        mount(
            "overlay",
            point,
            "overlay",
            MountFlags::empty(),
            options.as_c_str(),
        )
        .context("mount overlayfs")
    }

    /// Clones the folder above a lower folder into `dir`, as its path says without looking, with mapped ids. Gives the
    /// lower folder in the clone.
    fn map_lower(&self, lower: &Path, dir: &Path) -> Result<PathBuf> {
        let text = lower.to_str().context("a path in UTF-8")?;
        let (above, name) = text.rsplit_once('/').context("a path with a folder above")?;
        let clone = open_tree(
            CWD,
            above,
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
        )
        .with_context(|| format!("clone {above}"))?;
        self.map_ids(&clone)
            .with_context(|| format!("map the ids of {above}"))?;
        move_mount(&clone, "", CWD, dir, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .context("attach a clone")?;
        Ok(dir.join(name))
    }

    fn map_ids(&self, mount: &OwnedFd) -> Result<()> {
        let namespace = File::open(self.proc("ns/user")).context("open a namespace")?;
        let attributes = libc::mount_attr {
            attr_set: libc::MOUNT_ATTR_IDMAP | libc::MOUNT_ATTR_RDONLY,
            attr_clr: 0,
            propagation: 0,
            userns_fd: u64::try_from(namespace.as_raw_fd()).context("a descriptor")?,
        };
        // SAFETY: the kernel reads an empty path, which ends with NUL, and as many bytes of attributes as there are.
        let result = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                mount.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_EMPTY_PATH,
                &raw const attributes,
                size_of::<libc::mount_attr>(),
            )
        };
        ensure!(result == 0, std::io::Error::last_os_error());
        Ok(())
    }

    fn proc(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.holder.id()))
    }
}

impl Drop for UserNamespace {
    fn drop(&mut self) {
        // It is gone already, or goes now.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
