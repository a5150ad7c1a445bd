//! `slipway check --against`: the image is compared with what it was made of.

use crate::archive::{Layer, Member};
use crate::fixture::{reference_image, stored};
use crate::place::{Place, noise};
use tar::EntryType;

/// Exit code and both streams.
fn check(place: &Place, options: &[&str]) -> (i32, String, String) {
    let output = place
        .slipway()
        .args(["check", &place.oci("dst"), "--against", &place.oci("src")])
        .args(["--platform", "linux/amd64"])
        .args(options)
        .output()
        .unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn what_was_converted_is_equal() {
    let place = Place::new();
    place.stored_image(&[stored("layer1.tar.gz"), stored("layer2.tar.gz")]);
    place
        .convert(&["--chunk-size", "16KiB", "--digester", "blake3"])
        .success();
    let (code, stdout, stderr) = check(&place, &[]);
    assert_eq!((code, stdout.as_str()), (0, ""), "{stderr}");
    assert!(stderr.contains("327 paths equal to oci:"), "{stderr}");
}

#[test]
fn what_the_reference_builder_loses_is_found() {
    for name in ["zran", "zstd-batch"] {
        let place = Place::new();
        place.stored_image(&[stored("layer1.tar.gz"), stored("layer2.tar.gz")]);
        reference_image(&place, "dst", name);
        let (code, stdout, stderr) = check(&place, &[]);
        let dst = place.oci("dst") + ": ";
        let told: Vec<_> = stdout
            .lines()
            .map(|line| line.strip_prefix(&dst).unwrap())
            .collect();
        assert_eq!(
            told,
            [
                "/usr/bin/tool: gid is 0, but 12 in the original",
                "/usr/bin/tool-hard: gid is 0, but 12 in the original",
                "/usr/bin/tool-soft: mode is 0644, but 0777 in the original",
                "/usr/lib/dangling: mode is 0644, but 0777 in the original",
                "/var/nsec: mtime is 1700000000s+0ns, but 1700000000s+123456789ns in the original",
            ],
            "{stderr}"
        );
        assert_eq!(code, 1);
    }
}

/// What `every_difference_is_told` expects, a path and an aspect each.
const TOLD: [&str; 17] = [
    "/file: mode",
    "/file: uid",
    "/file: gid",
    "/file: mtime",
    "/file: xattrs",
    "/file: links",
    "/file: content",
    "/gone: added",
    "/kind: type",
    "/link: target",
    "/more: missing",
    "/null: rdev",
    "/second: uid",
    "/second: gid",
    "/second: mtime",
    "/second: xattrs",
    "/second: links",
];

#[test]
fn every_difference_is_told() {
    let place = Place::new();
    let file = |mode, owner, mtime, content| Member {
        mode,
        owner,
        mtime,
        content,
        ..Member::new(b"file", EntryType::Regular)
    };
    let (old, mut new) = (noise(3 << 20, 1), noise(3 << 20, 1));
    new[2 << 20] ^= 1;
    let base = |layer: Layer| layer.dir("d/").file("d/a", b"a").file("d-", b"");
    let before = base(Layer::default())
        .pax(false, &[("SCHILY.xattr.user.x", b"1")])
        .add(&file(0o644, (1, 2), 3, &old))
        .link("second", "file")
        .symlink("link", "here")
        .file("gone", b"")
        .file("kind", b"")
        .add(&Member {
            device: (1, 3),
            ..Member::new(b"null", EntryType::Char)
        });
    place.image(&[before.bytes()]);
    place.convert(&[]).success();
    assert_eq!(check(&place, &[]).0, 0);
    let after = base(Layer::default())
        .pax(false, &[("SCHILY.xattr.user.x", b"2")])
        .add(&file(0o600, (3, 4), 5, &new))
        .file("second", &old)
        .symlink("link", "there")
        .dir("kind/")
        .file("more", b"")
        .add(&Member {
            device: (1, 5),
            ..Member::new(b"null", EntryType::Char)
        });
    place.image(&[after.bytes()]);
    let (code, stdout, stderr) = check(&place, &[]);
    assert_eq!(code, 1, "{stderr}");
    let dst = place.oci("dst") + ": ";
    let told: Vec<_> = stdout
        .lines()
        .map(|line| line.strip_prefix(&dst).unwrap())
        .collect();
    let what: Vec<String> = told
        .iter()
        .map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(what, TOLD, "{stdout}");
    assert!(told[6].ends_with("at byte 2097152 in the original"), "{stdout}");
    let (code, stdout, _) = check(&place, &["--json"]);
    let findings: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &findings["differences"]["count"]), (1, &17.into()));
    assert_eq!(
        findings["differences"]["first"][0],
        serde_json::json!({"path": "/file", "what": "mode", "original": "0600", "rafs": "0644"})
    );
}
