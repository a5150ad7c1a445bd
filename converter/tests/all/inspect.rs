//! `slipway inspect` of the images of the reference builder: golden files, in which everything unknown would show.

use std::fs;

use crate::fixture::{REFERENCE, reference_bootstrap};
use crate::place::{Place, sha256};

fn inspect(place: &Place, options: &[&str]) -> String {
    let output = place
        .slipway()
        .args(["inspect", "image.boot"])
        .args(options)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn place(name: &str) -> Place {
    let place = Place::new();
    fs::write(place.path("image.boot"), reference_bootstrap(name)).unwrap();
    place
}

#[test]
fn images_of_the_reference_builder() {
    for name in REFERENCE {
        let place = place(name);
        insta::assert_snapshot!(format!("reference-{name}"), inspect(&place, &[]));
        // The dump is long: its length and digest stand for it, and its start shows the superblocks.
        let dump = inspect(&place, &["--dump"]);
        let start: Vec<&str> = dump.lines().take(60).collect();
        insta::assert_snapshot!(
            format!("reference-{name}-dump"),
            format!(
                "{} lines, sha256 {}\n{}\n",
                dump.lines().count(),
                sha256(dump.as_bytes()),
                start.join("\n")
            )
        );
    }
}

#[test]
fn paths_show_where_their_contents_lie() {
    let place = place("zstd-chunk64k");
    let paths = ["/usr/bin/tool", "usr/bin/tool-soft", "/"];
    insta::assert_snapshot!("inspect-paths", inspect(&place, &paths));
    insta::assert_snapshot!(
        "inspect-paths-json",
        inspect(&place, &["--json", "/usr/bin/tool-soft"])
    );
}

#[test]
fn what_cannot_be_opened_can_be_dumped() {
    let place = Place::new();
    let mut bytes = reference_bootstrap("zran");
    bytes[1024] ^= 1;
    fs::write(place.path("image.boot"), bytes).unwrap();
    let dump = inspect(&place, &["--dump"]);
    assert!(
        dump.starts_with("# not a RAFS v6 bootstrap") && dump.contains("magic=0xe0f5e1e3"),
        "{}",
        &dump[..400]
    );
}
