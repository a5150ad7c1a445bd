//! The test images themselves: two independent unpackers agree on them, so that they can be oracles.

use integration::compare::{self, Allowed};
use integration::image::{busybox, debian, edge};
use integration::scene::Scene;
use integration::unpack;

#[test]
fn busybox_is_the_same_for_umoci_and_gnu_tar() {
    let scene = Scene::create().unwrap();
    let layout = scene.dir().join("layout");
    busybox::make(&layout).unwrap();
    unpack::umoci(&layout, "busybox:1", &scene.dir().join("umoci")).unwrap();
    let mtimes = unpack::gnu_tar(&layout, "busybox:1", &scene.dir().join("tar")).unwrap();
    let allowed = Allowed {
        mtimes,
        ..Allowed::default()
    };
    compare::assert_same(&scene.dir().join("umoci"), &scene.dir().join("tar"), &allowed);
}

#[test]
fn edge_image_unpacks_as_it_is_written() {
    let scene = Scene::create().unwrap();
    let layout = scene.dir().join("layout");
    edge::make(&layout).unwrap();
    let root = scene.dir().join("root");
    let implicit = unpack::gnu_tar(&layout, "edge:1", &root).unwrap();
    let implicit: Vec<_> = implicit.iter().filter(|path| !path.starts_with("deep")).collect();
    let expected = [
        "new",
        "new/without",
        "new/without/listed",
        "new/without/listed/parents",
    ];
    assert_eq!(
        implicit,
        expected[..3].iter().map(std::path::Path::new).collect::<Vec<_>>()
    );
    for gone in [
        "gone",
        "keep/removed",
        "opaque/lower",
        "again/lower",
        "links/pair-b",
        "implicit-parent/removed",
    ] {
        assert!(!root.join(gone).exists(), "{gone} is removed by a layer");
    }
    assert_eq!(std::fs::read(root.join("swap-dir")).unwrap(), b"was a directory");
    assert_eq!(
        std::fs::read(root.join("opaque/upper")).unwrap(),
        b"only this is left"
    );
}

#[test]
fn debian_image_is_as_large_as_real_ones() {
    let blobs = debian::image().unwrap().join("blobs/sha256");
    let sizes = std::fs::read_dir(blobs)
        .unwrap()
        .map(|blob| blob.unwrap().metadata().unwrap().len());
    let total: u64 = sizes.sum();
    assert!(total >= 100_000_000, "{total} bytes");
}
