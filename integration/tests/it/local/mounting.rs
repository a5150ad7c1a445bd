//! A lazily mounted image is the image: path by path against an independent unpack of the original.

use std::time::Duration;

use integration::compare::{self, Allowed};
use integration::image::{debian, edge, huge};
use integration::scene::Scene;
use integration::slipway::{convert, oci};
use integration::slipwayd::ImageMount;
use integration::unpack;

const READ_DEADLINE: Duration = Duration::from_secs(30);

/// Converts, mounts and compares with what GNU tar makes of the original.
fn same_as_tar(make: impl FnOnce(&std::path::Path) -> anyhow::Result<()>, tag: &str) {
    let scene = Scene::create().unwrap();
    let layout = scene.dir().join("layout");
    make(&layout).unwrap();
    let converted = scene.dir().join("converted");
    convert(&oci(&layout, tag), &oci(&converted, tag)).unwrap();
    let expected = scene.dir().join("expected");
    let mtimes = unpack::gnu_tar(&layout, tag, &expected).unwrap();
    let mount = ImageMount::start(&scene, "mnt", &oci(&converted, tag), READ_DEADLINE).unwrap();
    let allowed = Allowed {
        mtimes,
        ..Allowed::default()
    };
    compare::assert_same(&expected, mount.point(), &allowed);
    mount.stop().unwrap();
}

#[test]
fn edge_image() {
    same_as_tar(edge::make, "edge:1");
}

#[test]
fn huge_image() {
    same_as_tar(huge::make, "huge:1");
}

#[test]
fn debian_image_is_what_umoci_unpacks() {
    let scene = Scene::create().unwrap();
    let layout = debian::image().unwrap();
    let converted = scene.dir().join("converted");
    convert(&oci(&layout, debian::TAG), &oci(&converted, debian::TAG)).unwrap();
    let expected = scene.dir().join("expected");
    unpack::umoci(&layout, debian::TAG, &expected).unwrap();
    let mount = ImageMount::start(&scene, "mnt", &oci(&converted, debian::TAG), READ_DEADLINE).unwrap();
    let allowed = Allowed {
        directory_mtimes: true,
        ..Allowed::default()
    };
    compare::assert_same(&expected, mount.point(), &allowed);
    mount.stop().unwrap();
}
