//! The arrows between crates, as doc/ARCHITECTURE.md draws them: what is not drawn is an error.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// From -> to, for every kind of dependency.
const ARROWS: [(&str, &str); 12] = [
    ("fuse", "rafs"),
    ("fuse", "proto"),
    ("converter", "rafs"),
    ("converter", "proto"),
    ("snapshotter", "rafs"),
    ("snapshotter", "proto"),
    ("snapshotter", "fuse"),
    ("integration", "rafs"),
    ("integration", "proto"),
    ("integration", "fuse"),
    ("integration", "converter"),
    ("integration", "snapshotter"),
];

/// What would make `rafs` more than a format: I/O, threads, logging, the operating system.
const NOT_IN_RAFS: [&str; 10] = [
    "tokio", "libc", "rustix", "nix", "rayon", "tracing", "log", "fuser", "reqwest", "anyhow",
];

/// The same of the standard library.
const NOT_IN_RAFS_STD: [&str; 8] = [
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::env",
    "std::process",
    "std::thread",
    "std::time",
];

/// Source files of a folder and the folders in it.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let found = entries.map(|path| match path.is_dir() {
        true => sources(&path),
        false => vec![path],
    });
    found.flatten().collect()
}

fn metadata() -> Metadata {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    MetadataCommand::new()
        .manifest_path(manifest)
        .exec()
        .expect("cargo metadata answers")
}

fn dependencies(package: &Package, kinds: &[DependencyKind]) -> BTreeSet<String> {
    let wanted = package
        .dependencies
        .iter()
        .filter(|dependency| kinds.contains(&dependency.kind));
    wanted.map(|dependency| dependency.name.clone()).collect()
}

#[test]
fn only_the_drawn_arrows_exist() {
    let metadata = metadata();
    let crates = metadata.workspace_packages();
    let names: BTreeSet<&str> = crates.iter().map(|package| package.name.as_str()).collect();
    let expected = BTreeSet::from(["rafs", "proto", "fuse", "converter", "snapshotter", "integration"]);
    assert_eq!(names, expected, "a further crate needs a written reason");
    for package in crates {
        let all = [
            DependencyKind::Normal,
            DependencyKind::Development,
            DependencyKind::Build,
        ];
        for target in dependencies(package, &all)
            .iter()
            .filter(|target| names.contains(target.as_str()))
        {
            let arrow = (package.name.as_str(), target.as_str());
            assert!(
                ARROWS.contains(&arrow),
                "{} must not depend on {}",
                arrow.0,
                arrow.1
            );
        }
    }
}

#[test]
fn rafs_is_pure() {
    let metadata = metadata();
    let crates = metadata.workspace_packages();
    let rafs = crates
        .iter()
        .find(|package| package.name == "rafs")
        .expect("rafs is in the workspace");
    let dependencies = dependencies(rafs, &[DependencyKind::Normal, DependencyKind::Build]);
    for name in NOT_IN_RAFS {
        assert!(!dependencies.contains(name), "rafs must not depend on {name}");
    }
    let root = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../rafs/src/lib.rs")).unwrap();
    assert!(
        root.contains("#![forbid(unsafe_code)]"),
        "rafs forbids unsafe code"
    );
    let sources = sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../rafs/src")));
    assert!(sources.len() > 30, "{sources:?}");
    for path in sources {
        let text = std::fs::read_to_string(&path).unwrap();
        let found = NOT_IN_RAFS_STD.iter().find(|name| text.contains(**name));
        assert_eq!(found, None, "{} must do no I/O", path.display());
    }
}

#[test]
fn proto_pulls_in_nothing_by_default() {
    let metadata = metadata();
    let crates = metadata.workspace_packages();
    let proto = crates
        .iter()
        .find(|package| package.name == "proto")
        .expect("proto is in the workspace");
    assert!(
        !proto.features.contains_key("default"),
        "each user of proto names the features it needs"
    );
    let converter = crates
        .iter()
        .find(|package| package.name == "converter")
        .expect("converter is there");
    let uses = converter
        .dependencies
        .iter()
        .find(|dependency| dependency.name == "proto")
        .expect("it reads images");
    assert!(
        uses.features.iter().all(|feature| feature == "registry"),
        "the converter needs neither containerd nor the control protocol, so it must build without protoc"
    );
}
