//! What the commands print, and where.

use crate::archive::{Layer, Member};
use crate::place::{Place, noise};
use tar::EntryType;

fn help(command: &[&str]) -> String {
    let output = Place::new()
        .slipway()
        .args(command)
        .arg("--help")
        .output()
        .unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn help_of_all_commands() {
    insta::assert_snapshot!("help", help(&[]));
    for command in ["convert", "check", "hints", "inspect", "ls", "unpack"] {
        insta::assert_snapshot!(format!("help-{command}"), help(&[command]));
    }
}

fn image() -> Place {
    let place = Place::new();
    let layer = Layer::default()
        .dir("etc/")
        .file("etc/hosts", b"127.0.0.1 localhost\n")
        .symlink("etc/mtab", "/proc/mounts")
        .add(&Member {
            mode: 0o4755,
            content: &noise(2 << 20, 1),
            ..Member::new(b"tool", EntryType::Regular)
        })
        .link("same", "tool")
        .add(&Member {
            device: (1, 3),
            mode: 0o666,
            ..Member::new(b"null", EntryType::Char)
        })
        .add(&Member {
            mode: 0o1777,
            mtime: 86_400,
            owner: (1000, 100),
            ..Member::new(b"tmp/", EntryType::Directory)
        })
        .file("bad\x1bname", b"");
    place.image(&[layer.bytes()]);
    place.convert(&["--compressor", "none"]).success();
    place
}

fn output(place: &Place, arguments: &[&str]) -> String {
    let output = place
        .slipway()
        .args(arguments)
        .args(["--platform", "linux/amd64"])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn inspect_shows_what_is_stored() {
    let place = image();
    insta::assert_snapshot!("inspect", output(&place, &["inspect", &place.oci("dst")]));
    insta::assert_snapshot!(
        "inspect-json",
        output(&place, &["inspect", "--json", &place.oci("dst")])
    );
}

#[test]
fn ls_lists_directories_and_files() {
    let place = image();
    insta::assert_snapshot!("ls", output(&place, &["ls", &place.oci("dst")]));
    insta::assert_snapshot!("ls-etc", output(&place, &["ls", &place.oci("dst"), "/etc/"]));
    insta::assert_snapshot!("ls-file", output(&place, &["ls", &place.oci("dst"), "etc/hosts"]));
    let missing = place
        .slipway()
        .args(["ls", &place.oci("dst"), "/nowhere", "--platform", "linux/amd64"])
        .assert()
        .code(2);
    assert_eq!(
        missing.get_output().stderr,
        b"error: /nowhere: not in the image\n"
    );
}

#[test]
fn convert_keeps_the_streams_apart() {
    let place = Place::new();
    place.image(&[Layer::default().file("f", b"f").bytes()]);
    let silent = place.convert(&["--progress", "none"]).success();
    assert!(silent.get_output().stdout.is_empty());
    let json = place.convert(&["--json", "--progress", "json"]).success();
    let report: serde_json::Value = serde_json::from_slice(&json.get_output().stdout).unwrap();
    assert_eq!(report["layers"][0]["entry_count"], 1);
    let events: Vec<serde_json::Value> = String::from_utf8_lossy(&json.get_output().stderr)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let names: Vec<_> = events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["found", "layer_started", "layer_read", "layer_done", "merging"]
    );
}

#[test]
fn wrong_usage_is_an_error() {
    let place = Place::new();
    for arguments in [
        &["convert", "oci:a"][..],
        &["convert", "oci:a", "oci:b", "--chunk-size", "3MiB"],
        &["convert", "oci:a", "oci:b", "--compressor", "gzip"],
        &["convert", "oci:a", "docker-archive:b"],
        &["convert", "oci:missing", "oci:b"],
        &["check", "--data", "Cargo.toml"],
        &["nonsense"],
    ] {
        let output = place.slipway().args(arguments).assert().code(2);
        let stderr = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
        assert!(stderr.starts_with("error: "), "{arguments:?}: {stderr}");
    }
}

#[test]
fn archives_are_written_to_files_and_to_standard_output_alike() {
    let place = image();
    output(&place, &["unpack", &place.oci("dst"), "out.tar"]);
    assert!(std::fs::read(place.path("out.tar")).unwrap() == place.unpacked());
    let listed = std::process::Command::new("tar")
        .arg("-tf")
        .arg(place.path("out.tar"))
        .output()
        .unwrap();
    assert!(listed.status.success() && listed.stderr.is_empty(), "{listed:?}");
}

#[test]
fn log_lines_have_no_colours_where_no_terminal_is() {
    let place = Place::new();
    place.image(&[Layer::default().file(".wh..wh.plnk", b"").bytes()]);
    let output = place
        .slipway()
        .args(["convert", "oci:src", "oci:out"])
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("AUFS bookkeeping skipped"), "{told}");
    assert!(!told.contains('\x1b'), "{told:?}");
}

/// What a command that fails prints to standard error.
fn failure(place: &Place, arguments: &[&str]) -> String {
    let output = place.slipway().args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn options_that_would_have_no_effect_are_refused() {
    let place = image();
    let (source, target) = (place.oci("dst"), place.oci("plain"));
    for option in [
        &["--chunk-size", "1MiB"][..],
        &["--digester", "sha256"],
        &["--batch-size", "0"],
        &["--flat"],
        &["--layer-bootstraps"],
        &["--prefetch-pattern", "/etc"],
        &["--jobs", "1"],
    ] {
        let arguments = [
            &["convert", &source, &target, "--platform", "linux/amd64"][..],
            option,
        ]
        .concat();
        let text = failure(&place, &arguments);
        assert!(
            text.contains(&format!("{} says how RAFS images are made", option[0])),
            "{text}"
        );
        assert!(text.contains("\nhint: leave it out"), "{text}");
    }
    assert!(failure(&place, &["convert", &source, &target, "--prefetch-pattern", ""]).contains("empty"));
}

#[test]
fn names_of_files_without_a_transport_are_explained() {
    let place = image();
    std::fs::write(place.path("image.tar"), "").unwrap();
    for (name, advice) in [
        ("dst", "hint: for the layout in the folder dst here write oci:dst"),
        (
            "image.tar",
            "hint: for the archive image.tar here write oci-archive:image.tar",
        ),
    ] {
        // A proxy that is not there: whatever the machine reaches, nobody is asked.
        let mut command = place.slipway();
        command
            .env("HTTPS_PROXY", "http://127.0.0.1:1")
            .args(["inspect", &format!("{name}:v1")]);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            text.contains(&format!("reading docker://docker.io/library/{name}:v1: ")),
            "{text}"
        );
        assert!(text.contains(advice), "{text}");
    }
}

#[test]
fn every_line_for_programs_is_json() {
    let place = image();
    let events = |arguments: &[&str]| -> Vec<String> {
        let platform = ["--platform", "linux/amd64", "--progress", "json"];
        let output = place.slipway().args(arguments).args(platform).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        let event = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["event"].as_str().unwrap().to_owned()
        };
        text.lines().map(event).collect()
    };
    let (source, target) = (place.oci("src"), place.oci("again"));
    let converted = events(&["convert", &source, &target, "--prefetch-pattern", "/absent"]);
    for event in ["found", "layer_started", "layer_done", "merging", "note"] {
        assert!(
            converted.iter().any(|known| known == event),
            "{event}: {converted:?}"
        );
    }
    let tar = place.path("x.tar").display().to_string();
    let unpacked = events(&["unpack", &target, &tar]);
    assert_eq!(unpacked.first().unwrap(), "contents");
    assert_eq!(unpacked[unpacked.len() - 2..], ["contents_done", "note"]);
    assert_eq!(events(&["convert", &place.oci("absent"), &target]), ["error"]);
}

#[test]
fn a_full_output_is_named() {
    let place = image();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_slipway"));
    let arguments = ["inspect", &place.oci("dst"), "--platform", "linux/amd64"];
    let output = command.args(arguments).stdout(full).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with("error: writing standard output: No space left"),
        "{text}"
    );
}
