//! The way of a kubelet: CRI pulls, and the labels it sends make the image lazy.

use std::sync::Arc;
use std::time::Duration;

use integration::cri::Cri;
use integration::node::{Node, Settings};
use integration::registry::{Access, PASSWORD, Registry, USER};
use integration::scene::Scene;
use integration::{slipway, wait};

use super::node;

/// How long a container's log may take to show a line.
const LOG_DEADLINE: Duration = Duration::from_secs(30);

#[test]
fn pod_runs_a_lazy_image() {
    let node = node();
    let small = node.scene.dir().join("small");
    let reference = node.offer_converted(&small, "busybox:1", "busybox:rafs").unwrap();
    let mut cri = Cri::connect(&node.containerd.socket()).unwrap();
    let logs = node.scene.folder("logs").unwrap();
    let pod = cri.run_pod(&node.scene.unique("pod"), &logs).unwrap();
    cri.pull(&reference).unwrap();
    let served = node.slipwayd.images().unwrap();
    assert_eq!(
        served.len(),
        1,
        "the labels of CRI make the image lazy: {served:?}"
    );
    let script = "cat /data/greeting; sleep 1000000";
    let container = cri
        .run_container(&pod, "main", &reference, &["/bin/sh", "-c", script])
        .unwrap();
    let log = pod.log("main");
    wait::until(LOG_DEADLINE, "the container's output in its log", || {
        std::fs::read_to_string(&log)
            .ok()
            .filter(|text| text.contains("hello from a layer"))
    })
    .unwrap();
    let (status, said) = cri.exec(&container, &["/bin/cat", "/data/greeting"]).unwrap();
    assert_eq!((status, said.as_str()), (0, "hello from a layer\n"));
    cri.stop_container(&container).unwrap();
    cri.remove_pod(&pod).unwrap();
    cri.remove_image(&reference).unwrap();
}

/// The login of a pull secret reaches the daemon through the image service, and only there.
#[test]
fn pod_with_a_pull_secret_runs_a_lazy_image_of_a_private_registry() {
    let settings = Settings {
        is_image_service: true,
        log_level: "trace",
        ..Settings::default()
    };
    let node = Node::start_with(Arc::new(Scene::create().unwrap()), &settings).unwrap();
    let private = Registry::start_with(&node.scene, "private", Access::Password).unwrap();
    node.containerd.trust(&private.host()).unwrap();
    let small = node.scene.dir().join("small");
    let reference = private.reference("team/busybox:rafs");
    let login = format!("{USER}:{PASSWORD}");
    let target = format!("docker://{reference}");
    slipway::convert_with(
        &["--dest-creds", &login],
        &slipway::oci(&small, "busybox:1"),
        &target,
    )
    .unwrap();

    let sockets = (node.containerd.socket(), node.slipwayd.image_service());
    let mut cri = Cri::connect_to(&sockets.0, &sockets.1).unwrap();
    assert!(cri.pull_as(&reference, Some((USER, "wrong"))).is_err());
    cri.pull_as(&reference, Some((USER, PASSWORD))).unwrap();
    let logs = node.scene.folder("logs").unwrap();
    let pod = cri.run_pod(&node.scene.unique("pod"), &logs).unwrap();
    let container = cri
        .run_container(&pod, "main", &reference, &["/bin/sleep", "1000000"])
        .unwrap();
    let (status, said) = cri.exec(&container, &["/bin/cat", "/data/greeting"]).unwrap();
    assert_eq!((status, said.as_str()), (0, "hello from a layer\n"));
    let image = node.slipwayd.image(&reference).unwrap().unwrap();
    assert!(image["fetched_bytes"].as_u64() > Some(0), "it was lazy: {image}");
    assert!(!node.slipwayd.log().unwrap().contains(PASSWORD));
    cri.stop_container(&container).unwrap();
    cri.remove_pod(&pod).unwrap();
    cri.remove_image(&reference).unwrap();
}

#[test]
fn pod_runs_a_plain_image() {
    let node = node();
    let reference = node.meter.reference("busybox:1");
    let mut cri = Cri::connect(&node.containerd.socket()).unwrap();
    let logs = node.scene.folder("logs").unwrap();
    let pod = cri.run_pod(&node.scene.unique("pod"), &logs).unwrap();
    cri.pull(&reference).unwrap();
    let container = cri
        .run_container(&pod, "main", &reference, &["/bin/sleep", "1000000"])
        .unwrap();
    let (status, said) = cri.exec(&container, &["/bin/cat", "/data/greeting"]).unwrap();
    assert_eq!((status, said.as_str()), (0, "hello from a layer\n"));
    cri.stop_container(&container).unwrap();
    cri.remove_pod(&pod).unwrap();
}
