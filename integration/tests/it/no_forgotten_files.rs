//! A test file that no `mod` names would never run, and nobody would notice.

use std::collections::BTreeSet;
use std::path::Path;

#[test]
fn every_file_is_a_module() {
    let mut wanted = BTreeSet::new();
    let mut named = BTreeSet::new();
    collect(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it"),
        "",
        &mut wanted,
        &mut named,
    );
    assert!(wanted.len() > 1, "no test files found");
    let forgotten: Vec<_> = wanted.difference(&named).collect();
    assert!(forgotten.is_empty(), "add `mod` lines for {forgotten:?}");
}

/// Walks `dir`: `wanted` are the files' module paths, `named` the paths that `mod` lines give.
fn collect(dir: &Path, prefix: &str, wanted: &mut BTreeSet<String>, named: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            collect(&path, &format!("{prefix}{stem}/"), wanted, named);
            continue;
        }
        let is_main = prefix.is_empty() && stem == "main";
        let own = format!("{prefix}{stem}");
        let inner = if is_main { String::new() } else { format!("{own}/") };
        if !is_main {
            wanted.insert(own);
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let modules = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("mod ")?.strip_suffix(';'));
        named.extend(modules.map(|module| format!("{inner}{module}")));
    }
}
