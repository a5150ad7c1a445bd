//! What the store keeps, refuses and never hands out twice.

mod model;

use std::path::Path;
use std::sync::Arc;

use super::*;

fn new(name: &str, parent: &str, kind: Kind) -> NewSnapshot {
    NewSnapshot {
        name: name.into(),
        parent: parent.into(),
        kind,
        role: Role::Ordinary,
        origin: None,
        labels: Labels::new(),
    }
}

fn placed(_id: SnapshotId) -> Result<()> {
    Ok(())
}

fn open(dir: &Path) -> Store {
    Store::open(&dir.join("store.redb")).unwrap()
}

fn commit(store: &Store, name: &str, parent: &str) -> Snapshot {
    store.create(&new("key", parent, Kind::Active), placed).unwrap();
    let content = Content {
        usage: Usage { bytes: 7, inodes: 1 },
        bootstrap: None,
    };
    store.commit("key", name, Labels::new(), content).unwrap()
}

fn origin() -> Origin {
    Origin {
        image: "host/app:1".into(),
        manifest: Some("sha256:m".into()),
        layer: None,
    }
}

#[test]
fn everything_survives_a_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let base = commit(&store, "base", "");
    let data = NewSnapshot {
        role: Role::Data,
        kind: Kind::Committed,
        origin: Some(origin()),
        labels: [("a".to_owned(), "b".to_owned())].into(),
        ..new("ignored", "base", Kind::Committed)
    };
    assert!(store.create_remote("sha256:c", &data).unwrap());
    let child = store
        .create(&new("child", "sha256:c", Kind::View), placed)
        .unwrap();
    let before = store.chain("child").unwrap();
    drop(store);

    let store = open(dir.path());
    assert_eq!(store.chain("child").unwrap(), before);
    assert_eq!(before[0], child);
    assert_eq!(before[2], base);
    assert_eq!(before[1].origin, Some(origin()));
    assert!(store.has_remote("sha256:c", "base").unwrap());
    assert!(!store.create_remote("sha256:c", &data).unwrap());
    assert!(matches!(store.remove("base"), Err(Error::HasChildren { .. })));
}

#[test]
fn numbers_are_never_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let first = store.create(&new("a", "", Kind::Active), placed).unwrap();
    store.remove("a").unwrap();
    drop(store);
    let store = open(dir.path());
    let second = store.create(&new("a", "", Kind::Active), placed).unwrap();
    assert!(second.id > first.id);
    let census = store.census().unwrap();
    assert_eq!((census.last, census.live), (second.id, [second.id].into()));
}

#[test]
fn a_failed_placement_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let failure = store.create(&new("a", "", Kind::Active), |_| Err(Error::Stopping));
    assert!(matches!(failure, Err(Error::Stopping)));
    assert!(matches!(store.get("a"), Err(Error::NotFound { .. })));
    assert_eq!(store.census().unwrap().last, SnapshotId(0));
}

#[test]
fn images_begin_with_the_commit_of_a_bootstrap_and_end_with_its_removal() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bootstrap = |name| NewSnapshot {
        role: Role::Bootstrap,
        origin: Some(origin()),
        ..new(name, "", Kind::Active)
    };
    store.create(&bootstrap("key"), placed).unwrap();
    assert!(store.images().unwrap().is_empty());
    let committed = store
        .commit("key", "boot", Labels::new(), Content::default())
        .unwrap();
    assert_eq!(
        committed.origin,
        Some(origin()),
        "the commit keeps what is known of the image"
    );
    assert_eq!(store.images().unwrap(), [(ImageId(1), committed)]);
    store.remove("boot").unwrap();
    assert!(store.images().unwrap().is_empty());
    store.create(&bootstrap("key"), placed).unwrap();
    let again = store
        .commit("key", "boot", Labels::new(), Content::default())
        .unwrap();
    assert_eq!(again.image_id(), Some(ImageId(2)));
}

#[test]
fn one_remote_row_for_each_reference_and_parent() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    commit(&store, "ns1/base", "");
    commit(&store, "ns2/base", "");
    let remote = |parent: &str| NewSnapshot {
        role: Role::Data,
        origin: Some(origin()),
        ..new("", parent, Kind::Committed)
    };
    assert!(store.create_remote("sha256:c", &remote("ns1/base")).unwrap());
    assert!(store.create_remote("sha256:c", &remote("ns2/base")).unwrap());
    assert!(!store.create_remote("sha256:c", &remote("ns2/base")).unwrap());
    let remotes: Vec<_> = store.page(SnapshotId(2), 10).unwrap();
    assert_eq!(remotes.len(), 2);
    assert_eq!(remotes[0].name, "sha256:c");
    store.remove("sha256:c").unwrap();
    assert!(store.create_remote("sha256:c", &remote("ns1/base")).unwrap());
    assert_eq!(store.get("sha256:c").unwrap().parent_name(), "ns1/base");
}

#[test]
fn pages_are_in_order_and_complete() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for index in 0..7 {
        store
            .create(&new(&format!("s{index}"), "", Kind::Active), placed)
            .unwrap();
    }
    let first = store.page(SnapshotId(0), 5).unwrap();
    let second = store.page(first[4].id, 5).unwrap();
    let names: Vec<_> = first
        .iter()
        .chain(&second)
        .map(|snapshot| snapshot.name.as_str())
        .collect();
    assert_eq!(names, ["s0", "s1", "s2", "s3", "s4", "s5", "s6"]);
}

#[test]
fn one_of_many_wins_a_reference() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(dir.path()));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let store = Arc::clone(&store);
            std::thread::spawn(move || {
                let data = NewSnapshot {
                    role: Role::Data,
                    ..new("", "", Kind::Committed)
                };
                store.create_remote("sha256:c", &data).unwrap()
            })
        })
        .collect();
    let winners = threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .filter(|won| *won)
        .count();
    assert_eq!(winners, 1);
}

#[test]
fn an_unknown_layout_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let db = Database::create(&path).unwrap();
    let txn = db.begin_write().unwrap();
    txn.open_table(COUNTERS)
        .unwrap()
        .insert(VERSION_KEY, VERSION + 1)
        .unwrap();
    txn.commit().unwrap();
    drop(db);
    let error = Store::open(&path).unwrap_err();
    assert!(error.to_string().contains("layout version 2"), "{error}");
}
