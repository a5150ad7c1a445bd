//! The fuzz targets, without a fuzzer: every kept input is run in every ordinary run of the tests.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use integration::fuzz::TARGETS;

/// What is kept is small, so that it can be.
const CORPUS_LEN_MAX: u64 = 1 << 20;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
}

fn names(dir: &Path) -> BTreeSet<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    names
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect()
}

#[test]
fn every_kept_input_keeps_the_promises() {
    let mut total = 0;
    for target in TARGETS {
        let files = std::fs::read_dir(folder("corpus").join(target.name)).unwrap();
        let mut count = 0;
        for path in files.map(|entry| entry.unwrap().path()) {
            let input = std::fs::read(&path).unwrap();
            total += input.len() as u64;
            count += 1;
            let outcome = std::panic::catch_unwind(|| (target.run)(&input));
            assert!(outcome.is_ok(), "{} breaks a promise", path.display());
        }
        assert!(count > 0, "{} has nothing to start from", target.name);
    }
    assert!(total <= CORPUS_LEN_MAX, "{total} bytes are kept");
}

#[test]
fn seeds_are_taken() {
    for target in TARGETS {
        for seed in (target.seeds)() {
            (target.run)(&seed);
        }
    }
}

#[test]
fn every_target_has_a_program_and_a_folder() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(names(&folder("targets")), targets);
    assert_eq!(names(&folder("corpus")), targets);
    let manifest = std::fs::read_to_string(folder("Cargo.toml")).unwrap();
    let programs = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("path = \"targets/"))
        .filter_map(|line| line.strip_suffix(".rs\""));
    assert_eq!(programs.map(str::to_owned).collect::<BTreeSet<_>>(), targets);
    // The programs are not built here, so they have to be one call of what is.
    for target in targets {
        let source = std::fs::read_to_string(folder("targets").join(format!("{target}.rs"))).unwrap();
        let call = format!("libfuzzer_sys::fuzz_target!(|input: &[u8]| integration::fuzz::{target}(input));");
        assert!(
            source.lines().any(|line| line == call),
            "{target}.rs does more, or else"
        );
    }
}
