//! The command line from the outside: answers, exit codes, precedence of settings. Needs no daemon.

mod run;

use std::path::Path;

use assert_cmd::Command;

fn slipwayd(arguments: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("slipwayd"));
    command.env_clear().args(arguments);
    command
}

fn stdout(command: &mut Command) -> String {
    String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap()
}

fn failure(command: &mut Command) -> String {
    String::from_utf8(command.assert().code(2).get_output().stderr.clone()).unwrap()
}

fn write(dir: &Path, text: &str) -> String {
    let path = dir.join("config.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn help_stays_as_it_is() {
    let mut said = String::new();
    for command in [
        &["--help"][..],
        &["run", "--help"],
        &["mount", "--help"],
        &["pull", "--help"],
        &["status", "--help"],
        &["images", "--help"],
        &["upgrade", "--help"],
        &["config", "--help"],
        &["config", "default", "--help"],
        &["config", "check", "--help"],
        &["containerd-config", "--help"],
    ] {
        said += &format!(
            "# slipwayd {}\n\n{}\n",
            command.join(" "),
            stdout(&mut slipwayd(command))
        );
    }
    insta::assert_snapshot!(said);
}

#[test]
fn the_default_configuration_passes_its_own_check() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), &stdout(&mut slipwayd(&["config", "default"])));
    slipwayd(&["config", "check", "--config", &path])
        .assert()
        .success();
}

#[test]
fn a_bad_configuration_says_where_and_what_next() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "[fuse]\nthread = 1\n");
    let said = failure(&mut slipwayd(&["config", "check", "--config", &path]));
    assert!(said.contains("thread") && said.contains(&path), "{said}");
    assert!(said.lines().any(|line| line.starts_with("hint: ")), "{said}");
}

#[test]
fn flag_over_environment_over_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "address = \"/file.sock\"\n");
    let print = |arguments: &[&str], environment: &[(&str, &str)]| {
        let mut command = slipwayd(&["containerd-config", "--version", "1.7", "--config", &path]);
        stdout(command.args(arguments).envs(environment.iter().copied()))
    };
    assert!(print(&[], &[]).contains("\"/file.sock\""));
    assert!(print(&[], &[("SLIPWAY_ADDRESS", "/env.sock")]).contains("\"/env.sock\""));
    let both = print(&["--address", "/flag.sock"], &[("SLIPWAY_ADDRESS", "/env.sock")]);
    assert!(both.contains("\"/flag.sock\""), "{both}");
}

#[test]
fn old_containerds_are_refused() {
    let said = failure(&mut slipwayd(&["containerd-config", "--version", "1.5"]));
    assert!(said.contains("too old") && said.contains("1.6"), "{said}");
}

#[test]
fn without_a_daemon_there_is_no_status() {
    let dir = tempfile::tempdir().unwrap();
    for command in ["status", "images"] {
        let said = failure(&mut slipwayd(&[
            command,
            "--run-dir",
            dir.path().to_str().unwrap(),
        ]));
        assert!(said.starts_with("error: cannot reach slipwayd"), "{said}");
    }
}

#[test]
fn only_registries_can_be_pulled_from() {
    let said = failure(&mut slipwayd(&["pull", "oci:/nowhere"]));
    assert!(
        said.contains("not in a registry") && said.contains("hint: "),
        "{said}"
    );
}

#[test]
fn mounting_needs_a_folder() {
    let said = failure(&mut slipwayd(&["mount", "oci:/nowhere", "/no/such/folder"]));
    assert!(said.contains("create the folder first"), "{said}");
}

#[test]
fn mounting_needs_an_empty_folder() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let said = failure(&mut slipwayd(&[
        "mount",
        "oci:/nowhere",
        dir.path().to_str().unwrap(),
    ]));
    assert!(
        said.contains("not empty") && said.contains("\nhint: name an empty folder"),
        "{said}"
    );
}

#[test]
fn pulling_needs_containerd() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("none.sock");
    let said = failure(&mut slipwayd(&[
        "pull",
        "registry.invalid/app:1",
        "--containerd-address",
        socket.to_str().unwrap(),
    ]));
    assert!(said.starts_with("error: cannot reach containerd at "), "{said}");
    assert!(
        said.contains("none.sock") && said.contains("\nhint: start containerd"),
        "{said}"
    );
}
