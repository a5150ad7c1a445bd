//! Sources of all kinds, and those that are none.

use std::process::Command;

use serde_json::json;

use crate::archive::{Layer, listing};
use crate::place::{
    OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Packing, Place, Stored, add_blob, add_image, write_index,
};

fn stored(name: &str) -> Stored {
    Stored::new(
        &Layer::default().file(name, name.as_bytes()).bytes(),
        Packing::Gzip,
    )
}

fn paths(place: &Place) -> Vec<String> {
    listing(&place.unpacked()).into_keys().collect()
}

fn refusal(place: &Place, options: &[&str]) -> String {
    String::from_utf8_lossy(&place.convert(options).code(2).get_output().stderr).into_owned()
}

#[test]
fn docker_schema_2_images_convert() {
    let place = Place::new();
    let mut layer = stored("docker");
    layer.media_type = "application/vnd.docker.image.rootfs.diff.tar.gzip".to_owned();
    let manifest = add_image(
        &place.path("src"),
        &[layer],
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.container.image.v1+json",
        "amd64",
    );
    write_index(&place.path("src"), &[manifest]);
    place.convert(&[]).success();
    assert_eq!(paths(&place), ["./", "docker"]);
    assert_eq!(place.manifest("dst")["mediaType"], OCI_MANIFEST);
    assert_eq!(place.manifest("dst")["config"]["mediaType"], OCI_CONFIG);
}

/// A layout whose only entry is an index of two platforms.
fn two_platforms() -> Place {
    let place = Place::new();
    let layout = place.path("src");
    let manifests: Vec<_> = ["amd64", "arm64"]
        .into_iter()
        .map(|architecture| {
            let mut manifest = add_image(
                &layout,
                &[stored(architecture)],
                OCI_MANIFEST,
                OCI_CONFIG,
                architecture,
            );
            manifest["platform"] = json!({"os": "linux", "architecture": architecture});
            manifest
        })
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests});
    let index = add_blob(&layout, OCI_INDEX, &serde_json::to_vec(&index).unwrap());
    write_index(&layout, &[index]);
    place
}

#[test]
fn the_platform_of_an_index_is_chosen() {
    let place = two_platforms();
    place
        .slipway()
        .args([
            "convert",
            &place.oci("src"),
            &place.oci("dst"),
            "--platform",
            "linux/arm64",
        ])
        .assert()
        .success();
    let output = place
        .slipway()
        .args(["ls", &place.oci("dst"), "--platform", "linux/arm64"])
        .unwrap();
    assert!(output.stdout.ends_with(b" arm64\n"), "{output:?}");
}

#[test]
fn platforms_that_are_not_there_are_refused_with_those_that_are() {
    let place = two_platforms();
    let output = place
        .slipway()
        .args([
            "convert",
            &place.oci("src"),
            &place.oci("dst"),
            "--platform",
            "linux/s390x",
        ])
        .assert()
        .code(2);
    let stderr = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
    assert!(
        stderr.contains(
            "image for linux/s390x (there: linux/amd64, linux/arm64) not found in the image index\nhint: "
        ),
        "{stderr}"
    );
    let single = Place::new();
    single.image(&[]);
    let output = single
        .slipway()
        .args([
            "convert",
            &single.oci("src"),
            &single.oci("dst"),
            "--platform",
            "linux/arm64",
        ])
        .assert()
        .code(2);
    let stderr = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
    assert!(stderr.contains("there are: linux/amd64"), "{stderr}");
}

#[test]
fn artifacts_and_strange_layers_are_refused_with_a_reason() {
    let place = Place::new();
    let chart = "application/vnd.cncf.helm.config.v1+json";
    write_index(
        &place.path("src"),
        &[add_image(&place.path("src"), &[], OCI_MANIFEST, chart, "amd64")],
    );
    let stderr = refusal(&place, &[]);
    assert!(
        stderr.contains(&format!("media type {chart} is not a container image\nhint: ")),
        "{stderr}"
    );
    for (media_type, reason) in [
        (
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
            "it is encrypted",
        ),
        (
            "application/vnd.wasm.content.layer.v1+wasm",
            "is not a layer of files",
        ),
    ] {
        let place = Place::new();
        let layer = Stored {
            media_type: media_type.to_owned(),
            ..stored("f")
        };
        place.stored_image(&[layer]);
        let stderr = refusal(&place, &[]);
        assert!(stderr.contains(reason) && stderr.contains("hint: "), "{stderr}");
    }
}

#[test]
fn a_source_that_is_none_leaves_no_target_behind() {
    let place = Place::new();
    let (one, other) = (stored("one"), stored("other"));
    place.stored_image(&[one, other.clone()]);
    let digest = format!("sha256:{}", crate::place::sha256(&other.bytes));
    std::fs::write(place.blob_path("src", &digest), b"damaged").unwrap();
    // Some of it may have been converted before the damage was found.
    refusal(&place, &[]);
    assert!(!place.path("dst").exists());
    std::fs::remove_file(place.path("src").join("index.json")).unwrap();
    refusal(&place, &[]);
    assert!(!place.path("dst").exists());
    // A folder that was there stays.
    std::fs::create_dir(place.path("dst")).unwrap();
    refusal(&place, &[]);
    assert!(place.path("dst").read_dir().unwrap().next().is_none());
    place.stored_image(&[other]);
    place.convert(&[]).success();
}

#[test]
fn configs_whose_parts_are_no_objects_are_refused() {
    let config: fn(&serde_json::Value) -> serde_json::Value =
        |diff_id| json!(["linux", "amd64", null, {"diff_ids": [diff_id]}]);
    let rootfs: fn(&serde_json::Value) -> serde_json::Value =
        |diff_id| json!({"os": "linux", "architecture": "amd64", "rootfs": [[diff_id]]});
    for make in [config, rootfs] {
        let place = Place::new();
        let layout = place.path("src");
        let layer = stored("f");
        let diff_id = json!(layer.diff_id);
        let manifest = add_image(&layout, &[layer], OCI_MANIFEST, OCI_CONFIG, "amd64");
        let mut document = place.blob("src", manifest["digest"].as_str().unwrap());
        document["config"] = add_blob(&layout, OCI_CONFIG, &serde_json::to_vec(&make(&diff_id)).unwrap());
        let manifest = add_blob(&layout, OCI_MANIFEST, &serde_json::to_vec(&document).unwrap());
        write_index(&layout, &[manifest]);
        let stderr = refusal(&place, &[]);
        assert!(stderr.contains(" is not valid: "), "{stderr}");
    }
}

#[test]
fn foreign_layers_convert_if_their_data_is_there() {
    let place = Place::new();
    let media_type = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".to_owned();
    let layer = Stored {
        media_type,
        ..stored("f")
    };
    place.stored_image(std::slice::from_ref(&layer));
    place.convert(&[]).success();
    let digest = format!("sha256:{}", crate::place::sha256(&layer.bytes));
    std::fs::remove_file(place.blob_path("src", &digest)).unwrap();
    let stderr = refusal(&place, &[]);
    assert!(
        stderr.contains(&format!("layer {digest}: it is a foreign layer")),
        "{stderr}"
    );
}

#[test]
fn wrong_media_types_of_layers_do_not_matter() {
    let place = Place::new();
    let layer = Stored {
        media_type: "application/vnd.oci.image.layer.v1.tar".to_owned(),
        ..stored("f")
    };
    place.stored_image(&[layer]);
    place.convert(&[]).success();
    assert_eq!(paths(&place), ["./", "f"]);
}

#[test]
fn configs_that_do_not_fit_their_manifest_are_refused() {
    let place = Place::new();
    let layout = place.path("src");
    let mut manifest = add_image(&layout, &[stored("f")], OCI_MANIFEST, OCI_CONFIG, "amd64");
    let digest = manifest["digest"].as_str().unwrap().to_owned();
    let mut document = place.blob("src", &digest);
    document["layers"] = json!([]);
    manifest = add_blob(&layout, OCI_MANIFEST, &serde_json::to_vec(&document).unwrap());
    write_index(&layout, &[manifest]);
    let stderr = refusal(&place, &[]);
    assert!(
        stderr.contains("the manifest has 0 layers, the config names 1"),
        "{stderr}"
    );
}

#[test]
fn archives_are_sources_and_targets() {
    let place = Place::new();
    place.image(&[Layer::default().file("f", b"f").bytes()]);
    let archive = format!("oci-archive:{}", place.path("image.tar").display());
    place
        .slipway()
        .args([
            "convert",
            &place.oci("src"),
            &archive,
            "--platform",
            "linux/amd64",
        ])
        .assert()
        .success();
    let output = place
        .slipway()
        .args(["ls", &archive, "--platform", "linux/amd64"])
        .unwrap();
    assert!(output.stdout.ends_with(b" f\n"), "{output:?}");
}

#[test]
fn skopeos_docker_archives_convert() {
    let place = Place::new();
    place.image(&[
        Layer::default().file("f", b"f").bytes(),
        Layer::default().file("g", b"g").bytes(),
    ]);
    let archive = format!("docker-archive:{}", place.path("image.tar").display());
    let copied = Command::new("skopeo")
        .args([
            "--insecure-policy",
            "copy",
            "-q",
            &place.oci("src"),
            &format!("{archive}:name:tag"),
        ])
        .output();
    // Without skopeo there is no archive to convert.
    let Ok(copied) = copied else { return };
    assert!(
        copied.status.success(),
        "{}",
        String::from_utf8_lossy(&copied.stderr)
    );
    place
        .slipway()
        .args([
            "convert",
            &archive,
            &place.oci("dst"),
            "--platform",
            "linux/amd64",
        ])
        .assert()
        .success();
    assert_eq!(paths(&place), ["./", "f", "g"]);
}
