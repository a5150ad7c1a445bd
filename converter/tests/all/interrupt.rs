//! Signals in the middle of a conversion.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::archive::Layer;
use crate::place::Place;

#[test]
fn signals_end_a_conversion_that_hangs_and_tag_nothing() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        interrupt(signal);
    }
}

fn interrupt(signal: Signal) {
    let place = Place::new();
    place.image(&[Layer::default().file("f", b"f").bytes()]);
    // A layer that never comes: reading a pipe nobody writes to.
    let manifest = place.manifest("src");
    let blob = place.blob_path("src", manifest["layers"][0]["digest"].as_str().unwrap());
    std::fs::remove_file(&blob).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &blob, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_slipway"))
        .args([
            "convert",
            &place.oci("src"),
            &place.oci("dst"),
            "--platform",
            "linux/amd64",
            "--progress",
            "plain",
        ])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("layer 0") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "ended early");
    }
    kill_process(Pid::from_child(&child), signal).unwrap();
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(128 + signal.as_raw()));
    assert!(rest.contains("error: interrupted by SIG"), "{rest}");
    assert!(rest.contains("\nhint: nothing was tagged"), "{rest}");
    assert!(!place.path("dst").join("index.json").exists());
    let left: Vec<_> = std::fs::read_dir(place.path("dst").join("blobs/sha256"))
        .into_iter()
        .flatten()
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
