//! The harness itself: each part starts, answers, dies and comes back, and a scene leaves nothing behind.

use std::process::Command;

use integration::containerd::{Containerd, Options};
use integration::image::busybox;
use integration::registry::{Access, PASSWORD, Registry, USER};
use integration::scene::Scene;
use integration::slipway::{oci, push};
use integration::{mounts, port, process};

#[test]
fn registry_dies_and_comes_back_with_its_images() {
    let scene = Scene::create().unwrap();
    let layout = scene.dir().join("layout");
    busybox::make(&layout).unwrap();
    let mut registry = Registry::start(&scene).unwrap();
    let reference = registry.reference("busybox:1");
    push(&layout, "busybox:1", &reference).unwrap();
    registry.kill();
    assert!(!port::answers(registry.address()));
    registry.restart().unwrap();
    let mut inspect = Command::new("skopeo");
    inspect.args(["inspect", "--tls-verify=false", &format!("docker://{reference}")]);
    process::run(&mut inspect).unwrap();
}

#[test]
fn registry_asks_for_the_password() {
    let scene = Scene::create().unwrap();
    let layout = scene.dir().join("layout");
    busybox::make(&layout).unwrap();
    let registry = Registry::start_with(&scene, "guarded", Access::Password).unwrap();
    let reference = registry.reference("busybox:1");
    let mut push = Command::new("skopeo");
    push.args([
        "copy",
        "--quiet",
        "--dest-tls-verify=false",
        &format!("--dest-creds={USER}:{PASSWORD}"),
    ]);
    process::run(push.args([oci(&layout, "busybox:1"), format!("docker://{reference}")])).unwrap();
    let mut anonymous = Command::new("skopeo");
    anonymous.args([
        "inspect",
        "--no-creds",
        "--tls-verify=false",
        &format!("docker://{reference}"),
    ]);
    assert!(process::run(&mut anonymous).is_err());
}

#[test]
fn containerd_runs_a_container_and_a_scene_leaves_nothing_behind() {
    let scene = Scene::create().unwrap();
    let dir = scene.dir().to_owned();
    let layout = dir.join("layout");
    busybox::make(&layout).unwrap();
    let registry = Registry::start(&scene).unwrap();
    let reference = registry.reference("busybox:1");
    push(&layout, "busybox:1", &reference).unwrap();
    let options = Options {
        snapshotter_socket: &dir.join("nobody.sock"),
        pause_image: None,
    };
    let containerd = Containerd::start(&scene, &options).unwrap();
    containerd.trust(&registry.host()).unwrap();
    containerd.pull(&reference, "overlayfs").unwrap();
    let said =
        process::text(&mut containerd.run_command(&reference, "overlayfs", &scene.unique("greeting"), &[]));
    assert_eq!(said.unwrap(), "hello from a layer");
    // One that goes on for ever, so that clearing has something to do.
    let id = scene.unique("forever");
    let mut forever = containerd.ctr();
    forever.args([
        "run",
        "--detach",
        "--snapshotter",
        "overlayfs",
        &reference,
        &id,
        "/bin/sleep",
        "1000000",
    ]);
    process::run(&mut forever).unwrap();
    assert!(!mounts::under(&dir).unwrap().is_empty());
    drop(containerd);
    drop(registry);
    drop(scene);
    assert!(!dir.exists());
    assert!(mounts::under(&dir).unwrap().is_empty());
}

#[test]
fn a_scene_kills_what_mounts_and_runs_in_it() {
    let scene = Scene::create().unwrap();
    let dir = scene.dir().to_owned();
    let place = scene.folder("place").unwrap();
    let mut mount = Command::new("mount");
    process::run(mount.args(["-t", "tmpfs", "none"]).arg(&place)).unwrap();
    let log = scene.path("log").unwrap();
    let mut sleeper = Command::new("sh");
    sleeper.args(["-c", "sleep 1000000; :", dir.to_str().unwrap()]);
    let sleeper = process::Process::start("sleeper", sleeper, &log).unwrap();
    let id = sleeper.id();
    drop(scene);
    assert!(!dir.exists());
    // Still a zombie until its owner waits, but no longer running.
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    assert_eq!(stat.rsplit(") ").next().unwrap().chars().next(), Some('Z'));
}
