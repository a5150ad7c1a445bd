//! Programs that understand this one and programs that do not. Shell scripts stand for them.

use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

/// A program that answers with a script.
fn program(script: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("slipwayd");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    (dir, path)
}

/// A program that prints these versions, if it is asked as a daemon is.
fn telling(versions: &Versions) -> (TempDir, PathBuf) {
    let json = serde_json::to_string(versions).unwrap();
    program(&format!("[ \"$*\" = 'run --versions' ] || exit 3\necho '{json}'"))
}

fn upgrader() -> Upgrader {
    Upgrader::new(["run".into()], CancellationToken::new())
}

#[tokio::test]
async fn a_program_that_understands_takes_over_once() {
    let mut versions = Versions::ours();
    versions.version = "9.0.0".to_owned();
    versions.understands.get_mut("store").unwrap().push(77);
    versions.understands.insert("news".to_owned(), vec![1]);
    let (_dir, path) = telling(&versions);
    let upgrader = upgrader();
    let told = upgrader.begin(&path, fuse::known_features()).await.unwrap();
    assert_eq!(told, versions);
    assert_eq!(upgrader.chosen(), Some(path.as_path()));
    assert!(upgrader.stop.is_cancelled());
    let again = upgrader.begin(&path, 0).await;
    assert!(matches!(again, Err(Error::Ending)), "{again:?}");
}

#[tokio::test]
async fn a_program_that_does_not_understand_changes_nothing() {
    for (kind, _) in in_use() {
        for known in [None, Some(vec![]), Some(vec![77])] {
            let mut versions = Versions::ours();
            versions.understands.remove(kind);
            versions
                .understands
                .extend(known.map(|known| (kind.to_owned(), known)));
            let (_dir, path) = telling(&versions);
            let upgrader = upgrader();
            let error = upgrader.begin(&path, 0).await.unwrap_err();
            assert!(
                matches!(error, Error::Unknown { what, .. } if what == kind),
                "{error}"
            );
            assert!(error.to_string().contains("; hint: "), "{error}");
            assert!(!upgrader.stop.is_cancelled() && upgrader.chosen().is_none());
        }
    }
    let (_dir, path) = telling(&Versions::ours());
    let unknown = 1 << 63;
    let error = upgrader().begin(&path, unknown | 1).await.unwrap_err();
    assert!(
        matches!(error, Error::Features { features, .. } if features == unknown),
        "{error}"
    );
}

#[tokio::test]
async fn other_programs_are_refused() {
    for (script, reason) in [
        (
            "echo 'error: unexpected argument' >&2; exit 2",
            "exit status: 2: unexpected argument",
        ),
        ("echo hello", "expected value"),
        ("exit 0", "EOF"),
        ("echo '{\"version\":\"1\"}'", "missing field"),
    ] {
        let (_dir, path) = program(script);
        let upgrader = upgrader();
        let error = upgrader.begin(&path, 0).await.unwrap_err();
        assert!(matches!(error, Error::NoAnswer { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
        assert!(!upgrader.stop.is_cancelled());
    }
    let nowhere = upgrader().begin(Path::new("/nowhere/slipwayd"), 0).await;
    assert!(matches!(nowhere, Err(Error::NotRunnable { .. })), "{nowhere:?}");
}
