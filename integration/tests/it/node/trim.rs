//! A daemon that keeps its cache within its limits while a container reads more than fits.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use integration::image::steady;
use integration::node::{Node, Settings};
use integration::reader::LARGE;
use integration::scene::Scene;
use integration::{process, wait};
use rstest::rstest;
use rustix::fs::Advice;
use serde_json::Value;

/// Bytes of the file that the container reads.
const LARGE_LEN: usize = 48 << 20;
/// Bytes of the disk of the cache.
const DISK_LEN: u64 = 192 << 20;
/// What is left of the disk when a third of the file is in the cache.
const FREE_MIN: &str = "150MiB";
/// The same in bytes.
const FREE_MIN_LEN: u64 = 150 << 20;
/// A third of the file.
const SIZE_MAX: &str = "16MiB";
/// The same in bytes.
const SIZE_MAX_LEN: u64 = 16 << 20;
/// How long the daemon may take to make room: what was just read stays for 10 s, and it looks every 10 s.
const TRIM_DEADLINE: Duration = Duration::from_secs(90);

/// A small disk for the cache, made before the daemon starts.
fn lay_disk(scene: &Scene) {
    let cache = scene.folder("slipway/root/cache").unwrap();
    let image = scene.path("disk").unwrap();
    File::create(&image).unwrap().set_len(DISK_LEN).unwrap();
    let mut make = Command::new("mkfs.ext4");
    process::run(make.args(["-q", "-m", "0", "-O", "^has_journal"]).arg(&image)).unwrap();
    process::run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&cache)).unwrap();
}

fn cache(node: &Node) -> Value {
    let mut status = node.slipwayd.command(&["status", "--json"]).unwrap();
    let status: Value = serde_json::from_str(&process::text(&mut status).unwrap()).unwrap();
    status["cache"].clone()
}

fn compare(root: &Path, truth: &[u8]) {
    let path = root.join(LARGE);
    let file = File::open(&path).unwrap();
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    assert!(std::fs::read(&path).unwrap() == truth, "wrong bytes");
}

#[rstest]
#[case::size(SIZE_MAX, "0B")]
#[case::free_space("off", FREE_MIN)]
fn a_running_image_larger_than_the_cache_stays_readable(
    #[case] size_max: &'static str,
    #[case] free_min: &'static str,
) {
    let scene = Arc::new(Scene::create().unwrap());
    lay_disk(&scene);
    let settings = Settings {
        data_path: "fuse",
        fill: "auto",
        cache_size_max: size_max,
        cache_free_min: free_min,
        ..Settings::default()
    };
    let node = Node::start_with(scene, &settings).unwrap();
    let steady::Shown {
        reference,
        root,
        truth,
    } = steady::show(&node, LARGE_LEN, 11).unwrap();
    let truth = std::fs::read(truth.join(LARGE)).unwrap();
    compare(&root, &truth);
    let trimmed = wait::until(TRIM_DEADLINE, "something to be evicted", || {
        Some(cache(&node)).filter(|cache| cache["evicted_bytes"].as_u64() > Some(0))
    })
    .unwrap();
    let [used, free, refused] =
        ["used_bytes", "free_bytes", "refused_bytes"].map(|key| trimmed[key].as_u64().unwrap());
    assert!(refused > 0, "there was room for everything: {trimmed}");
    assert!(
        size_max == "off" || used <= SIZE_MAX_LEN,
        "too much is there: {trimmed}"
    );
    assert!(
        free_min == "0B" || free >= FREE_MIN_LEN,
        "too little is free: {trimmed}"
    );
    compare(&root, &truth);
    let image = node.slipwayd.image(&reference).unwrap().unwrap();
    assert_eq!(image["read_error_count"], 0, "{image}");
}
