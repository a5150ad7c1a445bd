//! What the writer writes is EROFS: the kernel shows the same tree as an independent unpack of the original.

use std::path::Path;

use integration::compare::{self, Allowed};
use integration::erofs::ErofsMount;
use integration::image::{busybox, edge};
use integration::scene::Scene;
use integration::slipway::{convert, oci};
use integration::unpack;

fn same_as_tar(make: fn(&Path) -> anyhow::Result<()>, tag: &str) {
    let scene = Scene::create().unwrap();
    let layout = scene.dir().join("layout");
    make(&layout).unwrap();
    let converted = scene.dir().join("converted");
    convert(&oci(&layout, tag), &oci(&converted, tag)).unwrap();
    let expected = scene.dir().join("expected");
    let mtimes = unpack::gnu_tar(&layout, tag, &expected).unwrap();
    let mount = ErofsMount::start(&converted, tag, &scene.dir().join("erofs")).unwrap();
    let allowed = Allowed {
        mtimes,
        ..Allowed::default()
    };
    compare::assert_same(&expected, mount.point(), &allowed);
}

#[test]
fn busybox_image() {
    same_as_tar(busybox::make, "busybox:1");
}

#[test]
fn edge_image() {
    same_as_tar(edge::make, "edge:1");
}
