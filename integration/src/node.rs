//! A whole node on one stage: registry, a meter in front of it, daemon, containerd.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::containerd::{self, Containerd};
use crate::image::busybox;
use crate::meter::Meter;
use crate::process;
use crate::registry::Registry;
use crate::scene::Scene;
use crate::slipway;
use crate::slipwayd::Slipwayd;

pub use crate::slipwayd::Settings;

/// The parts. Fields are dropped in this order: users before what they use, the scene last.
pub struct Node {
    /// Runs the containers.
    pub containerd: Containerd,
    /// Serves the snapshots.
    pub slipwayd: Slipwayd,
    /// Counts what the registry sends.
    pub meter: Meter,
    /// Holds the images.
    pub registry: Registry,
    /// Everything's folder.
    pub scene: Arc<Scene>,
}

impl Node {
    /// Starts all parts on a scene. Reads wait for the registry at most `read_deadline`. Containerd's CRI is on, with a
    /// pause image that is in the registry already.
    pub fn start(scene: Arc<Scene>, read_deadline: Duration) -> Result<Self> {
        let settings = Settings {
            read_deadline,
            ..Settings::default()
        };
        Self::start_with(scene, &settings)
    }

    /// The same with any settings of the daemon.
    pub fn start_with(scene: Arc<Scene>, settings: &Settings) -> Result<Self> {
        let registry = Registry::start(&scene)?;
        let meter = Meter::start(registry.address())?;
        let small = scene.dir().join("small");
        busybox::make(&small)?;
        slipway::push(&small, "busybox:1", &registry.reference("busybox:1"))?;
        slipway::push(&small, "pause:1", &registry.reference("pause:1"))?;
        let slipwayd = Slipwayd::start(&scene, settings)?;
        let options = containerd::Options {
            snapshotter_socket: &slipwayd.socket(),
            pause_image: Some(&meter.reference("pause:1")),
        };
        let containerd = Containerd::start(&scene, &options)?;
        containerd.trust(&meter.address().to_string())?;
        Ok(Node {
            containerd,
            slipwayd,
            meter,
            registry,
            scene,
        })
    }

    /// Puts an image of a layout folder into the registry as it is; gives the name to pull it by (metered).
    pub fn offer(&self, layout: &Path, tag: &str, name: &str) -> Result<String> {
        slipway::push(layout, tag, &self.registry.reference(name))?;
        Ok(self.meter.reference(name))
    }

    /// Converts an image of a layout folder into the registry; gives the name to pull it by (metered).
    pub fn offer_converted(&self, layout: &Path, tag: &str, name: &str) -> Result<String> {
        let target = format!("docker://{}", self.registry.reference(name));
        slipway::convert(&slipway::oci(layout, tag), &target)?;
        Ok(self.meter.reference(name))
    }

    /// Pulls a converted image without its data, as containerd's own client of this version cannot.
    pub fn pull_lazily(&self, reference: &str) -> Result<()> {
        self.slipwayd.pull(reference, &self.containerd.socket())
    }

    /// Runs a container to its end and gives what it printed.
    pub fn run(&self, reference: &str, argv: &[&str]) -> Result<String> {
        let id = self.scene.unique("run");
        process::text(
            &mut self
                .containerd
                .run_command(reference, containerd::SNAPSHOTTER, &id, argv),
        )
    }
}
