//! `slipway check` on whole, damaged and foreign images: one clear line, the promised exit status, never a panic.

use std::path::{Path, PathBuf};

use integration::image::busybox;
use integration::scene::Scene;
use integration::slipway::{convert, oci};
use integration::{binaries, process};

/// A converted image and the file of its largest blob.
fn converted(scene: &Scene) -> (PathBuf, PathBuf) {
    let layout = scene.dir().join("layout");
    busybox::make(&layout).unwrap();
    let converted = scene.dir().join("converted");
    convert(&oci(&layout, "busybox:1"), &oci(&converted, "busybox:1")).unwrap();
    let blobs = std::fs::read_dir(converted.join("blobs/sha256")).unwrap();
    let largest = blobs
        .map(|entry| entry.unwrap().path())
        .max_by_key(|path| path.metadata().unwrap().len());
    (converted, largest.unwrap())
}

/// Exit status and all output of `slipway check`, with every chunk verified.
fn check(image: &str) -> (Option<i32>, String) {
    let mut command = binaries::slipway().unwrap();
    let output = process::output(command.args(["check", "--data", image])).unwrap();
    let all = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(all).unwrap())
}

fn assert_clear_refusal(image: &str) {
    let (code, said) = check(image);
    assert!(matches!(code, Some(1 | 2)), "exit status {code:?}: {said}");
    assert!(!said.contains("panicked"), "{said}");
    let plain: Vec<_> = said
        .lines()
        .filter(|line| !line.trim_start().starts_with("hint:"))
        .collect();
    assert!((1..=4).contains(&plain.len()), "should be short: {said}");
}

#[test]
fn whole_image_is_fine() {
    let scene = Scene::create().unwrap();
    let (converted, _) = converted(&scene);
    let (code, said) = check(&oci(&converted, "busybox:1"));
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn flipped_byte_is_found() {
    let scene = Scene::create().unwrap();
    let (converted, blob) = converted(&scene);
    flip(&blob, 1000);
    let (code, said) = check(&oci(&converted, "busybox:1"));
    assert_eq!(code, Some(1), "{said}");
}

#[test]
fn truncated_blob_is_found() {
    let scene = Scene::create().unwrap();
    let (converted, blob) = converted(&scene);
    let file = std::fs::File::options().write(true).open(&blob).unwrap();
    file.set_len(blob.metadata().unwrap().len() / 2).unwrap();
    assert_clear_refusal(&oci(&converted, "busybox:1"));
}

#[test]
fn foreign_things_are_refused() {
    let scene = Scene::create().unwrap();
    let text = scene.path("text").unwrap();
    std::fs::write(&text, "this is no image\n".repeat(1000)).unwrap();
    let empty = scene.path("empty").unwrap();
    std::fs::write(&empty, "").unwrap();
    let layout = scene.dir().join("layout");
    busybox::make(&layout).unwrap();
    for image in [
        format!("oci-archive:{}", text.display()),
        format!("oci-archive:{}", empty.display()),
        format!("oci:{}", scene.dir().join("nothing").display()),
        oci(&layout, "busybox:1"),
        oci(&layout, "no-such-tag"),
    ] {
        assert_clear_refusal(&image);
    }
}

fn flip(path: &Path, offset: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[offset] ^= 1;
    std::fs::write(path, bytes).unwrap();
}
