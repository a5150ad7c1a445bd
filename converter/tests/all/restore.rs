//! RAFS back to plain images.

use std::fs;

use serde_json::json;

use crate::archive::Layer;
use crate::fixture::{REFERENCE, assert_equal, expected, reference, reference_image, seen};
use crate::place::{Place, noise, sha256};

/// Converts between layouts; gives the exit code and standard error.
fn convert(place: &Place, from: &str, to: &str, options: &[&str]) -> (i32, String) {
    let output = place
        .slipway()
        .args(["convert", &place.oci(from), &place.oci(to)])
        .args(["--platform", "linux/amd64", "--progress", "none"])
        .args(options)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), stderr)
}

fn converted() -> Place {
    let place = Place::new();
    let lower = Layer::default()
        .dir("d/")
        .file("d/gone", b"gone")
        .file("big", &noise(3 << 20, 5))
        .pax(false, &[("SCHILY.xattr.user.note", b"kept"), ("mtime", b"1.5")])
        .file("noted", b"n");
    let upper = Layer::default()
        .file("d/.wh.gone", b"")
        .link("d/same", "big")
        .symlink("s", "big");
    place.image(&[lower.bytes(), upper.bytes()]);
    place.convert(&[]).success();
    place
}

#[test]
fn images_come_back_as_one_plain_layer() {
    let place = converted();
    let tree = place.unpacked();
    for (options, media_type) in [
        (&[][..], "application/vnd.oci.image.layer.v1.tar+gzip"),
        (
            &["--compressor", "zstd"],
            "application/vnd.oci.image.layer.v1.tar+zstd",
        ),
        (
            &["--compressor", "none"],
            "application/vnd.oci.image.layer.v1.tar",
        ),
    ] {
        fs::rename(place.path("dst"), place.path("rafs")).unwrap();
        let (code, stderr) = convert(&place, "rafs", "plain", options);
        assert_eq!(code, 0, "{stderr}");
        let manifest = place.manifest("plain");
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
        assert_eq!(manifest["layers"][0]["mediaType"], media_type);
        assert!(!manifest.to_string().contains("nydus"), "{manifest}");
        let config = place.blob("plain", manifest["config"]["digest"].as_str().unwrap());
        assert_eq!(
            config["rootfs"]["diff_ids"],
            json!([format!("sha256:{}", sha256(&tree))]),
            "the layer is what unpack gives"
        );
        assert_eq!(config["config"]["Env"], json!(["PATH=/bin"]));
        let with_layer = config["history"].as_array().unwrap().iter();
        assert_eq!(
            with_layer.filter(|step| step["empty_layer"] != true).count(),
            1,
            "{config}"
        );
        // The same again gives the same, and the way back to RAFS the same tree.
        let (code, stderr) = convert(&place, "rafs", "twice", options);
        assert_eq!((code, place.manifest("twice")), (0, manifest), "{stderr}");
        assert_eq!(convert(&place, "plain", "dst", &[]).0, 0);
        assert!(place.unpacked() == tree, "{options:?}");
        for layout in ["rafs", "plain", "twice"] {
            fs::remove_dir_all(place.path(layout)).unwrap();
        }
    }
}

#[test]
fn layers_are_not_compressed_with_lz4() {
    let place = converted();
    let (code, stderr) = convert(&place, "dst", "plain", &["--compressor", "lz4"]);
    assert_eq!(code, 2);
    assert!(
        stderr.contains("leave --compressor out for gzip") && !place.path("plain/index.json").exists(),
        "{stderr}"
    );
}

#[test]
fn damaged_images_do_not_come_back() {
    let place = converted();
    let manifest = place.manifest("dst");
    let blob = place.blob_path("dst", manifest["layers"][0]["digest"].as_str().unwrap());
    let mut bytes = fs::read(&blob).unwrap();
    bytes[1 << 20] ^= 1;
    fs::write(blob, bytes).unwrap();
    let (code, stderr) = convert(&place, "dst", "plain", &[]);
    assert_eq!(code, 2);
    assert!(
        stderr.contains("digest mismatch") && !place.path("plain/index.json").exists(),
        "{stderr}"
    );
}

#[test]
fn images_of_the_reference_builder_come_back() {
    for name in REFERENCE {
        let place = Place::new();
        reference_image(&place, "rafs", name);
        let (code, stderr) = convert(&place, "rafs", "plain", &["--compressor", "zstd:1"]);
        assert_eq!(code, 0, "{name}: {stderr}");
        assert_eq!(convert(&place, "plain", "dst", &[]).0, 0);
        let mut expected = expected(reference("expected.jsonl"));
        // Converting gives symbolic links the mode that file systems show.
        let links = expected.values_mut().filter(|line| line["type"] == "symlink");
        links.for_each(|line| line["mode"] = "0o777".into());
        assert_equal(&seen(&place), &expected);
    }
}
