//! What a file system cannot keep of an image is told, and no failure.

use std::os::unix::fs::MetadataExt;

use tar::EntryType;

use crate::archive::{Layer, Member};
use crate::place::Place;

/// Unpacks `dst` to a new folder and gives what was told.
fn unpack(place: &Place) -> String {
    let folder = place.path("out");
    let output = place
        .slipway()
        .args(["unpack", &place.oci("dst"), "--platform", "linux/amd64"])
        .arg(&folder)
        .assert()
        .success();
    String::from_utf8_lossy(&output.get_output().stderr).into_owned()
}

#[test]
fn attributes_without_room_and_times_beyond_the_file_systems_are_lost_and_told() {
    let place = Place::new();
    // Ext4 has a block for a file's attributes, and times up to the year 2446.
    let large = vec![b'x'; 60_000];
    let records: [(&str, &[u8]); 3] = [
        ("SCHILY.xattr.user.large", &large),
        ("SCHILY.xattr.user.small", b"kept"),
        ("mtime", b"9000000000000000"),
    ];
    place.image(&[Layer::default()
        .pax(false, &records)
        .file("f", b"content")
        .file("g", b"")
        .bytes()]);
    place.convert(&[]).success();
    let stderr = unpack(&place);
    let file = place.path("out").join("f");
    assert_eq!(std::fs::read(&file).unwrap(), b"content");
    let is_kept = |name: &str| xattr::get(&file, name).ok().flatten().is_some();
    let is_all = is_kept("user.large") && is_kept("user.small");
    assert_eq!(
        stderr.contains("1 files lack extended attributes"),
        !is_all,
        "{stderr}"
    );
    let is_in_time = file.metadata().unwrap().mtime() == 9_000_000_000_000_000;
    assert_eq!(
        stderr.contains("1 files have other times"),
        !is_in_time,
        "{stderr}"
    );
}

#[test]
fn the_id_that_is_none_is_told_as_lost_and_takes_setuid_with_it() {
    let place = Place::new();
    let mut member = Member::new(b"f", EntryType::Regular);
    member.mode = 0o4755;
    place.image(&[Layer::default()
        .pax(false, &[("uid", b"4294967295"), ("gid", b"4294967295")])
        .add(&member)
        .bytes()]);
    place.convert(&[]).success();
    let stderr = unpack(&place);
    assert!(stderr.contains("1 files have another owner"), "{stderr}");
    let mode = place.path("out").join("f").metadata().unwrap().mode();
    assert_eq!(mode & 0o7777, 0o755);
}
