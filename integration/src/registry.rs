//! A private docker-registry on a loopback port.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::port;
use crate::process::Process;
use crate::scene::Scene;
use crate::wire::Wire;

/// User of a registry that wants one.
pub const USER: &str = "slipway";
/// The password of [`USER`].
pub const PASSWORD: &str = "correct-horse";
/// [`USER`] and [`PASSWORD`] as `htpasswd -B` writes them.
const HTPASSWD: &str = "slipway:$2y$05$n9OML9eYYGnGpWs7ohhUe.Mup70soi./M7eEpoRryo8BIADwzgnga\n";

/// The server, as Debian names it.
const PROGRAM: &str = "docker-registry";
/// How long the registry may take to answer.
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// Ports tried before giving up.
const PORT_TRIES_MAX: usize = 5;

/// Who may use a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Open,
    /// [`USER`] with [`PASSWORD`] (basic authentication).
    Password,
}

/// A running docker-registry with its storage in a scene. Dropping it kills it.
pub struct Registry {
    dir: PathBuf,
    address: SocketAddr,
    process: Process,
}

impl Registry {
    /// Starts a registry that everybody may use.
    pub fn start(scene: &Scene) -> Result<Self> {
        Self::start_with(scene, "registry", Access::Open)
    }

    /// Starts a registry under a name of its own in the scene.
    pub fn start_with(scene: &Scene, name: &str, access: Access) -> Result<Self> {
        let dir = scene.folder(name)?;
        let mut tries = 0;
        loop {
            tries += 1;
            let address = port::free()?;
            write_config(&dir, address, access)?;
            match serve(&dir, address, Command::new(PROGRAM)) {
                Ok(process) => {
                    break Ok(Registry {
                        dir,
                        address,
                        process,
                    });
                }
                Err(error) if tries == PORT_TRIES_MAX => break Err(error),
                Err(_) => {}
            }
        }
    }

    /// Starts a registry that everybody may use at the far end of a line.
    pub fn start_far(scene: &Scene, wire: &Wire) -> Result<Self> {
        let dir = scene.folder("registry")?;
        // Nobody else is in the namespace.
        let address = SocketAddr::from((wire.far(), 5000));
        write_config(&dir, address, Access::Open)?;
        let process = serve(&dir, address, wire.command(PROGRAM))?;
        Ok(Registry {
            dir,
            address,
            process,
        })
    }

    /// `host:port` as it stands in image names.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// An image name in this registry.
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// Kills it at once: connections break in the middle.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same port with the same storage.
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill();
        self.process = serve(&self.dir, self.address, Command::new(PROGRAM))?;
        Ok(())
    }

    /// The file in which the registry stores a blob, given its 64 hex digits.
    pub fn blob_file(&self, hex: &str) -> PathBuf {
        let blobs = self.dir.join("storage/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }
}

fn write_config(dir: &Path, address: SocketAddr, access: Access) -> Result<()> {
    let mut config = format!(
        "version: 0.1\nlog: {{level: warn}}\nstorage:\n  filesystem: {{rootdirectory: {}/storage}}\n  \
         delete: {{enabled: true}}\nhttp: {{addr: \"{address}\"}}\n",
        dir.display()
    );
    if access == Access::Password {
        let users = dir.join("htpasswd");
        std::fs::write(&users, HTPASSWD).context("write the registry's users")?;
        let _ = writeln!(
            config,
            "auth:\n  htpasswd: {{realm: slipway, path: {}}}",
            users.display()
        );
    }
    std::fs::write(dir.join("config.yml"), config).context("write the registry's configuration")
}

fn serve(dir: &Path, address: SocketAddr, mut command: Command) -> Result<Process> {
    command.arg("serve").arg(dir.join("config.yml"));
    // It would try to send spans to a collector.
    command.env("OTEL_TRACES_EXPORTER", "none");
    let mut process = Process::start("docker-registry", command, &dir.join("log"))?;
    process.until(READY_DEADLINE, "it listened", || {
        port::answers(address).then_some(())
    })?;
    Ok(process)
}
