//! The daemon under test: the built program with a root, a run folder and a configuration of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process::{self, Process};
use crate::scene::Scene;
use crate::{binaries, containerd, mounts};

/// How long the daemon may take to answer, also when the machine is busy.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// How long it may take to end after SIGTERM.
const END_DEADLINE: Duration = Duration::from_secs(30);

/// What differs between daemons.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long reads wait for the registry.
    pub read_deadline: Duration,
    /// Which tier serves images: `auto`, `erofs` or `fuse`.
    pub data_path: &'static str,
    /// Least severe level of its log.
    pub log_level: &'static str,
    /// Whether images become complete in the background: `auto`, `off` or a rate. Off unless set, so that what is
    /// fetched is what was read.
    pub fill: &'static str,
    /// Most that the chunk cache may hold.
    pub cache_size_max: &'static str,
    /// What the chunk cache leaves free on its disk.
    pub cache_free_min: &'static str,
    /// Whether ids are mapped where that is asked for.
    pub remap_ids: bool,
    /// Whether the CRI's image service is passed on to the containerd of the scene.
    pub is_image_service: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            read_deadline: Duration::from_secs(30),
            data_path: "auto",
            log_level: "debug",
            fill: "off",
            cache_size_max: "80%",
            cache_free_min: "0B",
            remap_ids: false,
            is_image_service: false,
        }
    }
}

/// `slipwayd run`. Dropping it kills it; its mount goes with the scene.
pub struct Slipwayd {
    dir: PathBuf,
    process: Process,
}

impl Slipwayd {
    /// Starts a daemon and waits until it answers.
    pub fn start(scene: &Scene, settings: &Settings) -> Result<Self> {
        let dir = scene.folder("slipway")?;
        let config = format!(
            "root = \"{0}/root\"\nrun_dir = \"{0}/run\"\ndata_path = \"{4}\"\n\n[log]\nlevel = \"{1}\"\n\n\
             [fuse]\nread_deadline = \"{2}ms\"\n\n[fetch]\nfill = \"{3}\"\nfill_free_min = \"0B\"\n\n[overlay]\nremap_ids = {5}\n\n\
             [cache]\nsize_max = \"{6}\"\nfree_min = \"{7}\"\n",
            dir.display(),
            settings.log_level,
            settings.read_deadline.as_millis(),
            settings.fill,
            settings.data_path,
            settings.remap_ids,
            settings.cache_size_max,
            settings.cache_free_min
        );
        let registry = match settings.is_image_service {
            true => format!(
                "\n[registry]\ncri_image_socket = \"{}/run/cri.sock\"\ncri_containerd = \"{}\"\n",
                dir.display(),
                containerd::socket_in(scene).display()
            ),
            false => String::new(),
        };
        std::fs::write(dir.join("config.toml"), config + &registry)
            .context("write the daemon's configuration")?;
        let process = serve(&dir)?;
        Ok(Slipwayd { dir, process })
    }

    /// The socket for containerd.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("run/slipwayd.sock")
    }

    /// The socket on which the CRI's image service is passed on.
    pub fn image_service(&self) -> PathBuf {
        self.dir.join("run/cri.sock")
    }

    /// Its log so far.
    pub fn log(&self) -> Result<String> {
        std::fs::read_to_string(self.dir.join("log")).context("read the daemon's log")
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Folder of everything it has.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Folder of its lasting state.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// A command of the daemon's program that talks to this daemon.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = configured(&self.dir)?;
        command.args(arguments);
        Ok(command)
    }

    /// Pulls a converted image into containerd without its data.
    pub fn pull(&self, reference: &str, containerd: &Path) -> Result<()> {
        let mut pull = self.command(&["pull", reference, "--containerd-address"])?;
        process::run(pull.arg(containerd)).map(drop)
    }

    /// What `slipwayd images --json` says of the image with this reference.
    pub fn image(&self, reference: &str) -> Result<Option<Value>> {
        let images = self.images()?;
        Ok(images.into_iter().find(|image| image["reference"] == reference))
    }

    /// What `slipwayd images --json` says.
    pub fn images(&self) -> Result<Vec<Value>> {
        let text = process::text(&mut self.command(&["images", "--json"])?)?;
        serde_json::from_str(&text).context("parse the answer of slipwayd images")
    }

    /// Has it replaced by another program; gives what that printed.
    pub fn upgrade(&self, program: &Path) -> Result<String> {
        let mut upgrade = self.command(&["upgrade", "--binary"])?;
        process::text(upgrade.arg(program))
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Kills it without warning and starts it again on the same folders.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        self.start_again()
    }

    /// Starts it again on the same folders, after it was killed or ended.
    pub fn start_again(&mut self) -> Result<()> {
        self.process = serve(&self.dir)?;
        Ok(())
    }

    /// Id of the process that keeps its descriptors.
    pub fn keeper(&self) -> Result<u32> {
        let socket = self.dir.join("run/keeper.sock");
        let command = [
            b"slipwayd\0keeper\0",
            socket.as_os_str().as_encoded_bytes(),
            b"\0",
        ]
        .concat();
        let is_keeper =
            |id: &u32| std::fs::read(format!("/proc/{id}/cmdline")).is_ok_and(|found| found == command);
        let processes = std::fs::read_dir("/proc").context("list processes")?;
        let mut ids = processes
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        ids.find(is_keeper).context("no keeper runs")
    }

    /// Asks it to end and waits for that; it must succeed.
    pub fn end(&mut self) -> Result<()> {
        let status = self.process.terminate(END_DEADLINE)?;
        anyhow::ensure!(
            status.success(),
            "slipwayd ended with {status}\n{}",
            self.process.log_tail()
        );
        Ok(())
    }

    /// Asks it to end and waits for that; it must succeed and leave no mount.
    pub fn stop(mut self) -> Result<()> {
        self.end()?;
        let left = mounts::under(&self.dir)?;
        anyhow::ensure!(left.is_empty(), "slipwayd left mounts: {left:?}");
        Ok(())
    }
}

fn configured(dir: &Path) -> Result<Command> {
    let mut command = binaries::slipwayd()?;
    command.arg("--config").arg(dir.join("config.toml"));
    Ok(command)
}

fn serve(dir: &Path) -> Result<Process> {
    let mut command = configured(dir)?;
    command.arg("run");
    let mut process = Process::start("slipwayd", command, &dir.join("log"))?;
    process.until(READY_DEADLINE, "it answered", || {
        let status = process::output(configured(dir).ok()?.arg("status")).ok()?;
        status.status.success().then_some(())
    })?;
    Ok(process)
}

/// `slipwayd mount`: one image in one folder. Dropping it kills it; its mount goes with the scene.
pub struct ImageMount {
    point: PathBuf,
    process: Process,
}

impl ImageMount {
    /// Mounts `image` (in skopeo's notation) at a folder `name` in the scene and waits until it is there.
    pub fn start(scene: &Scene, name: &str, image: &str, read_deadline: Duration) -> Result<Self> {
        let point = scene.folder(name)?;
        let config = scene.path(&format!("{name}.toml"))?;
        let text = format!("[fuse]\nread_deadline = \"{}ms\"\n", read_deadline.as_millis());
        std::fs::write(&config, text).context("write the configuration")?;
        let mut command = binaries::slipwayd()?;
        command
            .arg("--config")
            .arg(&config)
            .args(["mount", image])
            .arg(&point);
        command
            .arg("--cache-dir")
            .arg(scene.folder(&format!("{name}.cache"))?);
        let mut process = Process::start("slipwayd mount", command, &scene.path(&format!("{name}.log"))?)?;
        process.until(READY_DEADLINE, "it was mounted", || {
            let points = mounts::under(&point).ok()?;
            (!points.is_empty()).then_some(())
        })?;
        Ok(ImageMount { point, process })
    }

    /// The image's root.
    pub fn point(&self) -> &Path {
        &self.point
    }

    /// Id of the process that serves it.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Asks it to end; it must succeed and leave no mount.
    pub fn stop(mut self) -> Result<()> {
        let status = self.process.terminate(END_DEADLINE)?;
        anyhow::ensure!(
            status.success(),
            "slipwayd mount ended with {status}\n{}",
            self.process.log_tail()
        );
        let left = mounts::under(&self.point)?;
        anyhow::ensure!(left.is_empty(), "slipwayd mount left mounts: {left:?}");
        Ok(())
    }
}
