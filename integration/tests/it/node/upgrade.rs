//! Daemons that are replaced by another build under running containers, and builds that may not take over.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use integration::node::Node;
use integration::{binaries, process, wait};
use rustix::process::{Pid, Signal};
use serde_json::Value;

use super::crash::{Stage, readers_do_not_notice};

/// How long the other program may take to serve after a signal.
const SERVES_DEADLINE: Duration = Duration::from_secs(60);

/// Puts the daemon's program at a path: another build as far as the system can tell.
fn build(path: &Path) {
    let program = PathBuf::from(binaries::slipwayd().unwrap().get_program());
    let passing = path.with_extension("new");
    if std::fs::hard_link(&program, &passing).is_err() {
        std::fs::copy(&program, &passing).unwrap();
    }
    std::fs::rename(&passing, path).unwrap();
}

fn builds(node: &Node) -> [PathBuf; 2] {
    let folder = node.scene.folder("builds").unwrap();
    ["slipwayd-a", "slipwayd-b"].map(|name| {
        let path = folder.join(name);
        build(&path);
        path
    })
}

/// What the process runs.
fn program(node: &Node) -> PathBuf {
    std::fs::read_link(format!("/proc/{}/exe", node.slipwayd.id())).unwrap()
}

fn status(node: &Node) -> Value {
    let text = process::text(&mut node.slipwayd.command(&["status", "--json"]).unwrap()).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn upgraded(tier: &'static str) {
    let mut stage = Stage::start(tier);
    let builds = builds(&stage.node);
    let mut turn = builds.iter().cycle();
    readers_do_not_notice(tier, &mut stage, |node| {
        let next = turn.next().unwrap();
        let said = node.slipwayd.upgrade(next).unwrap();
        let version = env!("CARGO_PKG_VERSION");
        let process = node.slipwayd.id();
        assert_eq!(
            said,
            format!("upgraded from {version} to {version}, process {process}")
        );
        assert_eq!(program(node), *next);
    });
    assert_eq!(status(&stage.node)["pid"], stage.node.slipwayd.id());
}

#[test]
fn upgrades_are_not_noticed_on_erofs() {
    upgraded("erofs");
}

#[test]
fn upgrades_are_not_noticed_on_fuse() {
    upgraded("fuse");
}

#[test]
fn a_signal_starts_what_lies_where_the_program_lay() {
    let stage = Stage::start("auto");
    let [build_a, _] = builds(&stage.node);
    stage.node.slipwayd.upgrade(&build_a).unwrap();
    build(&build_a);
    let old = program(&stage.node);
    assert!(
        old.to_str().unwrap().ends_with(" (deleted)") || old == build_a,
        "{old:?}"
    );
    let before = status(&stage.node)["start"].clone();
    let process = Pid::from_raw(stage.node.slipwayd.id().cast_signed()).unwrap();
    rustix::process::kill_process(process, Signal::USR2).unwrap();
    wait::until(SERVES_DEADLINE, "the other program", || {
        (status(&stage.node)["start"] != before).then_some(())
    })
    .unwrap();
    assert_eq!(program(&stage.node), build_a);
    stage.reads_truly();
}

#[test]
fn a_program_that_does_not_understand_the_state_does_not_take_over() {
    let stage = Stage::start("auto");
    let before = status(&stage.node)["start"].clone();
    let other = stage.node.scene.path("builds/other").unwrap();
    let answer =
        r#"{"version":"9.0.0","understands":{"connection":[9],"store":[1],"keeper":[1]},"fuse_features":0}"#;
    for (script, reason) in [
        (
            format!("echo '{answer}'"),
            "(version 9.0.0) does not understand connection of version 1",
        ),
        ("exit 7".to_owned(), "did not tell which versions it understands"),
    ] {
        std::fs::write(&other, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&other, Permissions::from_mode(0o755)).unwrap();
        let mut upgrade = stage.node.slipwayd.command(&["upgrade", "--binary"]).unwrap();
        let output = process::output(upgrade.arg(&other)).unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(reason) && said.contains("\nhint: "), "{said}");
        assert_eq!(status(&stage.node)["start"], before);
    }
    stage.reads_truly();
}
