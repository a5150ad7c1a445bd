//! A line of a known rate: a network namespace behind a token bucket. Needs root and iproute2.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

/// Bytes that may pass at once: a few milliseconds of the fastest line that is shaped.
const BURST: &str = "512kb";
/// How long a packet may wait before it is dropped. Less would cost rate, since TCP takes a drop for congestion.
const QUEUE: &str = "50ms";

/// A namespace and the line to it. Dropping it takes both away.
pub struct Wire {
    namespace: String,
    far: Ipv4Addr,
}

impl Wire {
    /// Lays a line that is as fast as the machine.
    pub fn lay() -> Result<Self> {
        let id = std::process::id();
        let [high, low] = (id as u16).to_be_bytes();
        // A network of benchmarks (RFC 2544), so nobody's real one is hidden. One line a process.
        let near = Ipv4Addr::new(198, 18 | (high & 1), low, high & 0xfc | 1);
        let far = Ipv4Addr::from(u32::from(near) + 1);
        let wire = Wire {
            namespace: format!("slipway-{id}"),
            far,
        };
        let namespace = wire.namespace.as_str();
        let (here, there) = (format!("swn{id}"), format!("swf{id}"));
        ip(&["netns", "add", namespace])?;
        ip(&[
            "link", "add", &here, "type", "veth", "peer", "name", &there, "netns", namespace,
        ])?;
        ip(&["addr", "add", &format!("{near}/30"), "dev", &here])?;
        ip(&["link", "set", &here, "up"])?;
        ip(&[
            "-n",
            namespace,
            "addr",
            "add",
            &format!("{far}/30"),
            "dev",
            &there,
        ])?;
        ip(&["-n", namespace, "link", "set", &there, "up"])?;
        Ok(wire)
    }

    /// Bounds what comes from the far end, in the notation of tc (`1gbit`). `None`: no bound.
    pub fn shape(&self, rate: Option<&str>) -> Result<()> {
        let device = format!("swf{}", std::process::id());
        let tc = |arguments: &[&str]| {
            let mut tc = Command::new("tc");
            tc.args(["-n", &self.namespace, "qdisc"]).args(arguments);
            process::run(&mut tc).context("shape a line; hint: apt install iproute2")
        };
        match rate {
            Some(rate) => tc(&[
                "replace", "dev", &device, "root", "tbf", "rate", rate, "burst", BURST, "latency", QUEUE,
            ]),
            None => tc(&["replace", "dev", &device, "root", "pfifo"]),
        }
        .map(drop)
    }

    /// The address of its far end.
    pub fn far(&self) -> Ipv4Addr {
        self.far
    }

    /// A command that runs at the far end.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]);
        command
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // The line goes with the namespace.
        let _ = ip(&["netns", "del", &self.namespace]);
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let ran = process::run(Command::new("ip").args(arguments));
    ran.context("lay a line; hint: apt install iproute2").map(drop)
}
