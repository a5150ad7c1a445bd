//! Converting: the same bytes every time, wherever the image comes from.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use integration::image::{busybox, edge};
use integration::process;
use integration::scene::Scene;
use integration::slipway::{convert, oci};

/// Every file of a folder by its path, and its content.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(path) = open.pop() {
        for entry in std::fs::read_dir(&path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().display().to_string();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn twice_gives_the_same_bytes() {
    let scene = Scene::create().unwrap();
    let layout = scene.dir().join("layout");
    edge::make(&layout).unwrap();
    let results = ["one", "two"].map(|name| {
        let converted = scene.dir().join(name);
        convert(&oci(&layout, "edge:1"), &oci(&converted, "edge:1")).unwrap();
        files(&converted)
    });
    assert!(
        results[0].len() > 4,
        "an index, a manifest, a config and layers: {:?}",
        results[0].keys()
    );
    assert!(results[0] == results[1], "the two results differ");
}

#[test]
fn archives_give_the_bytes_of_the_layout() {
    let scene = Scene::create().unwrap();
    let layout = scene.dir().join("layout");
    busybox::make(&layout).unwrap();
    let from_layout = scene.dir().join("from-layout");
    convert(&oci(&layout, "busybox:1"), &oci(&from_layout, "busybox:1")).unwrap();
    let archive = format!("oci-archive:{}/image.tar:busybox", scene.dir().display());
    let mut copy = Command::new("skopeo");
    process::run(copy.args(["copy", "--quiet", &oci(&layout, "busybox:1"), &archive])).unwrap();
    let from_archive = scene.dir().join("from-archive");
    convert(&archive, &oci(&from_archive, "busybox:1")).unwrap();
    assert!(
        files(&from_layout) == files(&from_archive),
        "the two results differ"
    );
}
