//! Files that are given as bootstraps: looked at before they are read.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use converter::Error;
use converter::opened::{open_file, read_file};

use crate::fixture::reference_bootstrap;
use crate::place::Place;

#[test]
fn files_are_looked_at_before_they_are_read() {
    let place = Place::new();
    let good = reference_bootstrap("zstd-blake3");
    let path = place.path("image.boot");
    std::fs::write(&path, &good).unwrap();
    assert_eq!(read_file(&path).unwrap(), good);
    assert!(open_file(&path).is_ok());

    // Ten gigabytes that start like a bootstrap, and ten that do not.
    let mut file = File::options().write(true).open(&path).unwrap();
    file.set_len(10 << 30).unwrap();
    let error = read_file(&path).unwrap_err().to_string();
    assert!(
        error.contains("image.boot is larger than the limit of 2147483648 bytes"),
        "{error}"
    );
    file.write_all(&[7; 2048]).unwrap();
    assert!(matches!(
        read_file(&path),
        Err(Error::Bootstrap {
            source: rafs::Error::Foreign { .. },
            ..
        })
    ));
    std::fs::write(&path, &good[..100]).unwrap();
    assert!(matches!(
        read_file(&path),
        Err(Error::Bootstrap {
            source: rafs::Error::Foreign { .. },
            ..
        })
    ));
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let place = Place::new();
    let pipe = place.path("pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    for path in [
        Path::new("/dev/zero"),
        &pipe,
        pipe.parent().unwrap(),
        Path::new("/proc/self"),
    ] {
        let error = read_file(path).unwrap_err().to_string();
        assert!(
            error.contains("not a regular file") && error.contains(path.to_str().unwrap()),
            "{error}"
        );
    }
}
