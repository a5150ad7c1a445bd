//! One test for each case where today's unpackers and builders disagree.

use tar::EntryType;

use crate::archive::{Layer, Member, listing};
use crate::place::{Packing, Place, Stored};

/// Paths and lines of the converted image.
fn tree(layers: &[Layer]) -> Vec<(String, String)> {
    let place = Place::new();
    place.image(
        &layers
            .iter()
            .map(|layer| layer.clone().bytes())
            .collect::<Vec<_>>(),
    );
    place.convert(&[]).success();
    listing(&place.unpacked())
        .into_iter()
        .filter(|(path, _)| path != "./")
        .collect()
}

fn paths(layers: &[Layer]) -> Vec<String> {
    tree(layers).into_iter().map(|(path, _)| path).collect()
}

fn line(layers: &[Layer], path: &str) -> String {
    tree(layers)
        .into_iter()
        .find(|(name, _)| name == path)
        .unwrap_or_else(|| panic!("{path} is missing"))
        .1
}

/// What `slipway convert` says when it refuses.
fn refusal(layer: Layer) -> String {
    let place = Place::new();
    place.image(&[layer.bytes()]);
    let output = place.convert(&[]).code(2);
    let stderr = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
    assert!(
        stderr.starts_with("error: layer sha256:") && stderr.contains("\nhint: "),
        "{stderr}"
    );
    assert!(
        !place.path("dst").join("index.json").exists(),
        "nothing may be tagged"
    );
    stderr
}

#[test]
fn times_are_kept_to_the_nanosecond() {
    let layer = |records: &[(&str, &[u8])], global| [Layer::default().pax(global, records).file("f", b"")];
    assert_eq!(
        line(&layer(&[("mtime", b"5.25")], true), "f"),
        "Regular 644 0:0 5.250000000"
    );
    assert_eq!(
        line(&layer(&[("mtime", b"1700000000.123456789")], false), "f"),
        "Regular 644 0:0 1700000000.123456789"
    );
    assert_eq!(
        line(&layer(&[("mtime", b"-3")], false), "f"),
        "Regular 644 0:0 -3"
    );
    assert_eq!(line(&layer(&[("mtime", b"0")], false), "f"), "Regular 644 0:0 0");
}

#[test]
fn what_the_reference_builder_refuses_is_accepted() {
    let layer = Layer::default()
        .symlink("s", "target")
        .link("t", "s")
        .add(&Member::new(b"pipe", EntryType::Fifo))
        // The device fields of a FIFO left blank.
        .raw(|bytes| {
            let header = bytes.len() - 512;
            bytes[header + 329..header + 345].fill(0);
            bytes[header + 148..header + 156].fill(b' ');
            let sum: u32 = bytes[header..].iter().map(|byte| u32::from(*byte)).sum();
            bytes[header + 148..header + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        })
        .pax(
            false,
            &[
                ("SCHILY.xattr.user.empty", b""),
                ("SCHILY.xattr.user.binary", b"\0\xff"),
            ],
        )
        .file("./a/../b/./c", b"cleaned")
        .add(&Member {
            mode: 0o140_755,
            ..Member::new(b"socket", EntryType::Regular)
        });
    let tree = tree(std::slice::from_ref(&layer));
    let names: Vec<_> = tree.iter().map(|(path, _)| path.as_str()).collect();
    // Archives cannot hold the socket; the listing of the image shows it.
    assert_eq!(names, ["b/", "b/c", "pipe", "s", "t"]);
    assert_eq!(
        tree[1].1,
        "Regular 644 0:0 0 user.binary=\\x00\\xff user.empty= cleaned"
    );
    assert_eq!(
        (tree[2].1.as_str(), tree[4].1.as_str()),
        ("Fifo 644 0:0 0", "Link 777 0:0 0 -> s")
    );
    let place = Place::new();
    place.image(&[layer.bytes()]);
    place.convert(&[]).success();
    let output = place
        .slipway()
        .args(["ls", &place.oci("dst"), "/socket", "--platform", "linux/amd64"])
        .unwrap();
    assert!(
        output.stdout.starts_with(b"srwxr-xr-x"),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[test]
fn a_whiteout_under_an_implicit_parent_applies_and_the_parent_keeps_its_attributes() {
    let lower = Layer::default()
        .pax(false, &[("SCHILY.xattr.user.note", b"kept")])
        .add(&Member {
            mode: 0o2750,
            owner: (3, 4),
            mtime: 9,
            ..Member::new(b"d/", EntryType::Directory)
        })
        .file("d/x", b"x")
        .file("d/y", b"y");
    let layers = [lower, Layer::default().file("d/.wh.x", b"")];
    assert_eq!(paths(&layers), ["d/", "d/y"]);
    assert_eq!(line(&layers, "d/"), "Directory 2750 3:4 9 user.note=kept");
}

#[test]
fn a_whiteout_and_a_new_folder_of_its_name_hide_the_lower_content() {
    let lower = Layer::default().file("d/lower", b"");
    let before = Layer::default().file(".wh.d", b"").dir("d/").file("d/upper", b"");
    let after = Layer::default().dir("d/").file("d/upper", b"").file(".wh.d", b"");
    for upper in [before, after] {
        assert_eq!(paths(&[lower.clone(), upper]), ["d/", "d/upper"]);
    }
}

#[test]
fn a_hard_link_may_lead_to_a_lower_layer() {
    let layers = [
        Layer::default().file("a", b"content"),
        Layer::default().link("b", "a"),
    ];
    assert_eq!(line(&layers, "a"), "Regular 644 0:0 0 content");
    assert_eq!(line(&layers, "b"), "Link 644 0:0 0 -> a");
}

#[test]
fn link_counts_are_of_the_names_that_are_left() {
    let lower = Layer::default()
        .file("a", b"content")
        .link("b", "a")
        .link("c", "a");
    let place = Place::new();
    place.image(&[lower.bytes(), Layer::default().file(".wh.a", b"").bytes()]);
    place.convert(&[]).success();
    let output = place
        .slipway()
        .args(["ls", &place.oci("dst"), "--platform", "linux/amd64"])
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let counts: Vec<_> = text
        .lines()
        .map(|line| line.split_whitespace().nth(1).unwrap())
        .collect();
    assert_eq!(counts, ["2", "2"], "{text}");
    // The checker counts too.
    place
        .slipway()
        .args(["check", &place.oci("dst"), "--platform", "linux/amd64"])
        .assert()
        .success();
}

#[test]
fn nothing_gets_outside_the_root() {
    let layer = Layer::default()
        .file("../../escaped", b"inside")
        .symlink("up", "../../..")
        .file("up/through-a-link", b"inside")
        .symlink("abs", "/")
        .file("abs/etc/absolute", b"inside");
    assert_eq!(
        paths(&[layer]),
        ["abs", "escaped", "etc/", "etc/absolute", "through-a-link", "up"]
    );
}

#[test]
fn whiteouts_reach_nothing_outside_the_root() {
    let lower = Layer::default()
        .file("a", b"")
        .file("d/b", b"")
        .file("d/c", b"")
        .symlink("up", "../../..");
    let upper = Layer::default()
        .file("../../.wh.a", b"")
        .file("up/d/.wh.b", b"")
        .file("/../d/../../d/.wh.none", b"");
    // The link of the lower layer gives way, so that what is hidden behind it is nothing.
    assert_eq!(paths(&[lower, upper]), ["d/", "d/b", "d/c", "up/", "up/d/"]);
}

#[test]
fn members_in_any_order_make_one_tree() {
    let orders = [
        Layer::default()
            .dir("d/")
            .file("d/f", b"1")
            .file("d/f", b"2")
            .link("l", "d/f"),
        Layer::default()
            .file("d/f", b"1")
            .file("d/f", b"2")
            .link("l", "d/f")
            .dir("d/"),
        Layer::default()
            .file("d/f", b"2")
            .link("l", "d/f")
            .dir("d/")
            .dir("./d"),
    ];
    let trees = orders.map(|layer| tree(&[layer]));
    assert_eq!(trees[0].len(), 3, "{trees:?}");
    assert_eq!((&trees[1], &trees[2]), (&trees[0], &trees[0]));
}

#[test]
fn what_cannot_be_right_is_refused_with_layer_and_entry() {
    let outside = refusal(Layer::default().link("shadow", "../../../etc/shadow"));
    assert!(
        outside.contains("entry \"shadow\" at byte 0: hard link to \"etc/shadow\", which is not there"),
        "{outside}"
    );
    let nothing = refusal(Layer::default().dir("d/").link("d/b", "d/a"));
    assert!(nothing.contains("entry \"d/b\" at byte 512: "), "{nothing}");
    let dots = refusal(Layer::default().file("d/.wh...", b""));
    assert!(
        dots.contains("entry \"d/.wh...\" at byte 0: the whiteout names no file"),
        "{dots}"
    );
    let unknown = refusal(Layer::default().add(&Member::new(b"odd", EntryType::new(b'M'))));
    assert!(
        unknown.contains("member \"odd\" at byte 0 has unsupported type 'M'"),
        "{unknown}"
    );
}

#[test]
fn what_tar_tools_skip_is_skipped() {
    let layer = Layer::default()
        .add(&Member::new(b"a label", EntryType::new(b'V')))
        .file("f", b"");
    assert_eq!(paths(&[layer]), ["f"]);
}

#[test]
fn truncated_corrupt_and_wrong_layers_fail_with_offset_and_digests() {
    let tar = Layer::default().file("f", &[7; 5000]).bytes();
    let fails = |change: &dyn Fn(&mut Stored)| {
        let place = Place::new();
        let mut stored = Stored::new(&tar, Packing::Plain);
        change(&mut stored);
        place.stored_image(&[stored]);
        String::from_utf8_lossy(&place.convert(&[]).code(2).get_output().stderr).into_owned()
    };
    let truncated = fails(&|stored| {
        stored.bytes.truncate(3000);
        stored.diff_id = format!("sha256:{}", crate::place::sha256(&stored.bytes));
    });
    assert!(
        truncated.contains("archive is truncated at byte 3000"),
        "{truncated}"
    );
    let corrupt = fails(&|stored| stored.bytes[0] ^= 1);
    assert!(
        corrupt.contains("header checksum does not match at byte 0"),
        "{corrupt}"
    );
    let wrong = fails(&|stored| stored.diff_id = format!("sha256:{:064}", 0));
    let (expected, actual) = (
        format!("sha256:{:064}", 0),
        format!("sha256:{}", crate::place::sha256(&tar)),
    );
    assert!(
        wrong.contains(&format!("the config says {expected}, the content is {actual}")),
        "{wrong}"
    );
}

#[test]
fn blobs_that_are_not_what_their_digest_says_fail_with_both_digests() {
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let place = Place::new();
        let stored = Stored::new(&Layer::default().file("f", &[7; 50_000]).bytes(), packing);
        place.stored_image(std::slice::from_ref(&stored));
        let digest = crate::place::sha256(&stored.bytes);
        let mut bytes = stored.bytes;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
        std::fs::write(place.blob_path("src", &format!("sha256:{digest}")), &bytes).unwrap();
        let output = place.convert(&[]).code(2);
        let stderr = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
        assert!(
            stderr.contains(&digest) && stderr.contains(&crate::place::sha256(&bytes)),
            "{packing:?}: {stderr}"
        );
    }
}
