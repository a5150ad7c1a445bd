//! Signals in the middle of a conversion.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::place::{OCI_CONFIG, OCI_MANIFEST, Packing, Place, Stored, add_blob, add_image, write_index};

#[test]
fn signals_end_a_conversion_that_takes_hours_and_tag_nothing() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        interrupt(signal);
    }
}

fn interrupt(signal: Signal) {
    let place = Place::new();
    endless_image(&place);
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

/// An image whose layer takes hours to read: a file of a tebibyte, all of it a hole of the disk's.
fn endless_image(place: &Place) {
    const LEN: u64 = 1 << 40;
    let layout = place.path("src");
    let mut header = tar::Header::new_gnu();
    header.set_size(LEN);
    header.set_path("endless").unwrap();
    header.set_mode(0o644);
    header.set_cksum();
    let tar = Stored::new(header.as_bytes(), Packing::Plain);
    let manifest = add_image(&layout, &[tar], OCI_MANIFEST, OCI_CONFIG, "amd64");
    let mut document = place.blob("src", manifest["digest"].as_str().unwrap());
    let layer = place.blob_path("src", document["layers"][0]["digest"].as_str().unwrap());
    std::fs::File::options()
        .write(true)
        .open(layer)
        .unwrap()
        .set_len(LEN)
        .unwrap();
    document["layers"][0]["size"] = LEN.into();
    let manifest = add_blob(&layout, OCI_MANIFEST, &serde_json::to_vec(&document).unwrap());
    write_index(&layout, &[manifest]);
}
