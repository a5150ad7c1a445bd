//! Images of another implementation, and our own conversion of their original: through FUSE, through the kernel's EROFS
//! on the devices of a node, and through the kernel alone.

use fuse::DataPath;
use integration::erofs::{self, ErofsMount};
use integration::listing;
use integration::reference;
use integration::scene::Scene;
use integration::served::{ServedImage, Terms};
use integration::slipway::{convert_with, oci};

fn shows_what_is_expected(name: &str) {
    let scene = Scene::create().unwrap();
    let files = reference::unpack(name, scene.dir()).unwrap();
    let expected = reference::expected().unwrap();

    let shows = |image: &ServedImage| {
        listing::assert_same(&expected, &listing::of_tree(&image.point()).unwrap());
    };
    let dir = |name: &str| scene.folder(name).unwrap();
    shows(&ServedImage::alone(&files.bootstrap, &files.blobs, &dir("alone")).unwrap());
    for (data_path, name) in [(DataPath::Erofs, "node-erofs"), (DataPath::Fuse, "node-fuse")] {
        let terms = Terms {
            data_path,
            ..Terms::default()
        };
        shows(&ServedImage::on_node(&terms, &files.bootstrap, &files.blobs, &dir(name)).unwrap());
    }

    let bootstrap = std::fs::read(&files.bootstrap).unwrap();
    let kernel = ErofsMount::of_files(bootstrap, &files.blobs, &dir("erofs")).unwrap();
    listing::assert_same(&expected, &listing::of_tree(kernel.point()).unwrap());
}

#[test]
fn zstd_blake3() {
    shows_what_is_expected("zstd-blake3");
}

#[test]
fn lz4_sha256() {
    shows_what_is_expected("lz4-sha256");
}

#[test]
fn none_sha256() {
    shows_what_is_expected("none-sha256");
}

#[test]
fn zstd_batch() {
    shows_what_is_expected("zstd-batch");
}

#[test]
fn zstd_chunk64k() {
    shows_what_is_expected("zstd-chunk64k");
}

#[test]
fn zran() {
    shows_what_is_expected("zran");
}

fn own_conversion_shows_what_the_layers_say(options: &[&str]) {
    let scene = Scene::create().unwrap();
    let layout = scene.dir().join("layout");
    reference::make(&layout).unwrap();
    let converted = scene.dir().join("converted");
    let [source, target] = [&layout, &converted].map(|layout| oci(layout, reference::TAG));
    convert_with(options, &source, &target).unwrap();
    let truth = reference::truth().unwrap();

    let kernel = ErofsMount::start(&converted, reference::TAG, &scene.folder("erofs").unwrap()).unwrap();
    listing::assert_same(&truth, &listing::of_tree(kernel.point()).unwrap());

    let bootstrap = scene.dir().join("bootstrap");
    std::fs::write(
        &bootstrap,
        erofs::bootstrap_of(&converted, reference::TAG).unwrap(),
    )
    .unwrap();
    let blobs = converted.join("blobs/sha256");
    let fuse = ServedImage::alone(&bootstrap, &blobs, &scene.folder("fuse").unwrap()).unwrap();
    listing::assert_same(&truth, &listing::of_tree(&fuse.point()).unwrap());
}

#[test]
fn own_conversion() {
    own_conversion_shows_what_the_layers_say(&[]);
}

#[test]
fn own_conversion_in_batches() {
    own_conversion_shows_what_the_layers_say(&["--batch-size", "256KiB"]);
}

#[test]
fn own_flat_conversion() {
    own_conversion_shows_what_the_layers_say(&["--flat"]);
}
