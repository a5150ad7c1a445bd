//! What is to be fetched ahead, from the command line into the image and back.

use std::fs;

use crate::archive::Layer;
use crate::place::Place;

fn place() -> Place {
    let place = Place::new();
    let layer = Layer::default()
        .file("bin/tool", &[7; 5000])
        .file("lib/one.so", b"1")
        .file("lib/other.so", b"2")
        .file("doc/long", b"text");
    place.image(&[layer.bytes()]);
    place
}

fn slipway(place: &Place, arguments: &[&str]) -> (i32, String, String) {
    let output = place
        .slipway()
        .args(arguments)
        .args([&place.oci("dst"), "--platform", "linux/amd64"])
        .output()
        .unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

const LIST: &str =
    r#"{"version":"v1","files":[{"path":"/bin/tool","ranges":[[0,100],[4096,9000]]},{"path":"gone"}]}"#;

#[test]
fn a_list_and_patterns_become_hints_and_the_prefetch_table() {
    let place = place();
    fs::write(place.path("list.json"), LIST).unwrap();
    let options = [
        "--prefetch-file",
        "list.json",
        "--prefetch-pattern",
        "/lib/*.so",
        "--prefetch-pattern",
        "/doc",
    ];
    let converted = place.convert(&options).success();
    let stderr = String::from_utf8_lossy(&converted.get_output().stderr).into_owned();
    assert!(
        stderr.contains("warning: nothing in the image is meant by \"/gone\""),
        "{stderr}"
    );
    let (code, shown, _) = slipway(&place, &["hints", "show"]);
    let expected =
        "-        /bin/tool 0+100 4096+904\n-        /lib/one.so\n-        /lib/other.so\n-        /doc\n";
    assert_eq!((code, shown.as_str()), (0, expected));
    let (_, inspected, _) = slipway(&place, &["inspect"]);
    assert!(
        inspected.contains("prefetch   4 entries\n  /bin/tool\n  /lib/one.so\n  /lib/other.so\n  /doc\n")
            && inspected.contains("hints      4 files and directories, 2 ranges of 1.00 kB\n"),
        "{inspected}"
    );
    let (_, json, _) = slipway(&place, &["inspect", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["hints"]["range_len"], 1004);
    assert_eq!(slipway(&place, &["check"]).0, 0);

    // What is shown is taken again, and the same is made of it.
    let (_, list, _) = slipway(&place, &["hints", "show", "--json"]);
    let first = place.manifest("dst");
    fs::write(place.path("list.json"), list).unwrap();
    place.convert(&["--prefetch-file", "list.json"]).success();
    assert_eq!(place.manifest("dst"), first);
}

#[test]
fn an_image_without_hints_has_none() {
    let place = place();
    place.convert(&[]).success();
    let (code, stdout, stderr) = slipway(&place, &["hints", "show"]);
    assert_eq!((code, stdout.as_str()), (0, ""));
    assert!(stderr.contains(": no hints"), "{stderr}");
    assert!(!slipway(&place, &["inspect"]).1.contains("hints"));
}

#[test]
fn a_list_that_is_none_is_refused_before_anything_is_converted() {
    let place = place();
    for (text, reason) in [
        ("[]", "not a list of hints"),
        (r#"{"version":"v9","files":[]}"#, "hints of version \"v9\""),
        (
            r#"{"version":"v1","files":[{"path":"/../etc"}]}"#,
            "hint 0: the path climbs",
        ),
    ] {
        fs::write(place.path("list.json"), text).unwrap();
        let refused = place.convert(&["--prefetch-file", "list.json"]).code(2);
        let stderr = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
        assert!(stderr.contains(reason) && stderr.contains("hint: "), "{stderr}");
    }
    let refused = place.convert(&["--prefetch-file", "none.json"]).code(2);
    let stderr = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert!(stderr.contains("reading none.json"), "{stderr}");
}
