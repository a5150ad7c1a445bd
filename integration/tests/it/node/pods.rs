//! The way of a kubelet: CRI pulls, and the labels it sends make the image lazy.

use std::time::Duration;

use integration::cri::Cri;
use integration::wait;

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
