//! The behaviour containerd's own snapshotter suite asks for: names, kinds, parents, labels, removal.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::SystemTime;

use proto::snapshots::{Info, Kind};
use tonic::Code;

use crate::harness::{Harness, refused};

#[tokio::test]
async fn basic() {
    let harness = Harness::start().await;
    let mounts = harness.prepare("preparing", "").await.unwrap();
    let root = harness.mount(&mounts);
    fs::write(root.path().join("foo"), "foo\n").unwrap();
    fs::create_dir_all(root.path().join("a/b/c")).unwrap();
    drop(root);
    let active = harness.stat("preparing").await.unwrap();
    assert_eq!((active.kind(), active.parent.as_str()), (Kind::Active, ""));
    harness.commit("committed", "preparing").await.unwrap();
    assert_eq!(refused(harness.stat("preparing").await), Code::NotFound);
    let committed = harness.stat("committed").await.unwrap();
    assert_eq!(
        (committed.kind(), committed.parent.as_str()),
        (Kind::Committed, "")
    );

    let mounts = harness.prepare("next", "committed").await.unwrap();
    let root = harness.mount(&mounts);
    assert_eq!(fs::read_to_string(root.path().join("foo")).unwrap(), "foo\n");
    fs::write(root.path().join("bar"), "bar\n").unwrap();
    fs::write(root.path().join("foo"), "changed\n").unwrap();
    fs::remove_dir_all(root.path().join("a/b")).unwrap();
    drop(root);
    harness.commit("second", "next").await.unwrap();
    assert_eq!(harness.stat("second").await.unwrap().parent, "committed");

    let (infos, _) = harness.list(&[]).await.unwrap();
    assert_eq!(infos.len(), 2);
    for info in infos {
        assert_eq!(harness.stat(&info.name).await.unwrap(), info);
    }
    let view = harness.look("second").await;
    assert_eq!(fs::read_to_string(view.path().join("foo")).unwrap(), "changed\n");
    assert_eq!(fs::read_to_string(view.path().join("bar")).unwrap(), "bar\n");
    assert!(view.path().join("a").is_dir() && !view.path().join("a/b").exists());
    drop(view);
    let error = harness.remove("committed").await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.message().contains("remove"), "{error}");
    for key in ["view of second", "second", "committed"] {
        harness.remove(key).await.unwrap();
    }
}

#[tokio::test]
async fn stat_tells_kind_name_and_parent() {
    let harness = Harness::start().await;
    harness.layer("base", "", |_| {}).await;
    harness.prepare("active", "base").await.unwrap();
    harness.view("view", "base").await.unwrap();
    for (name, kind, parent) in [
        ("base", Kind::Committed, ""),
        ("active", Kind::Active, "base"),
        ("view", Kind::View, "base"),
    ] {
        let info = harness.stat(name).await.unwrap();
        assert_eq!(
            (info.name.as_str(), info.kind(), info.parent.as_str()),
            (name, kind, parent)
        );
    }
}

#[tokio::test]
async fn parents_are_found_through_stat() {
    let harness = Harness::start().await;
    harness.layer("a", "", |_| {}).await;
    harness.layer("b", "a", |_| {}).await;
    let b = harness.stat("b").await.unwrap();
    let a = harness.stat(&b.parent).await.unwrap();
    assert_eq!((a.name.as_str(), a.parent.as_str()), ("a", ""));
}

#[tokio::test]
async fn a_key_is_taken_once() {
    let harness = Harness::start().await;
    harness.prepare("prepared", "").await.unwrap();
    harness.view("viewed", "").await.unwrap();
    assert_eq!(
        refused(harness.prepare("prepared", "").await),
        Code::AlreadyExists
    );
    assert_eq!(refused(harness.view("prepared", "").await), Code::AlreadyExists);
    assert_eq!(refused(harness.prepare("viewed", "").await), Code::AlreadyExists);
    assert_eq!(refused(harness.view("viewed", "").await), Code::AlreadyExists);
    assert_eq!(refused(harness.prepare("", "").await), Code::InvalidArgument);
}

#[tokio::test]
async fn parents_must_exist_and_be_committed() {
    let harness = Harness::start().await;
    assert_eq!(refused(harness.prepare("a", "nobody").await), Code::NotFound);
    harness.prepare("active", "").await.unwrap();
    assert_eq!(
        refused(harness.prepare("a", "active").await),
        Code::InvalidArgument
    );
    assert_eq!(refused(harness.view("a", "active").await), Code::InvalidArgument);
}

#[tokio::test]
async fn commit_wants_an_active_snapshot_and_a_free_name() {
    let harness = Harness::start().await;
    harness.layer("base", "", |_| {}).await;
    harness.view("view", "base").await.unwrap();
    harness.prepare("active", "base").await.unwrap();
    assert_eq!(refused(harness.commit("x", "nobody").await), Code::NotFound);
    assert_eq!(
        refused(harness.commit("x", "view").await),
        Code::FailedPrecondition
    );
    assert_eq!(
        refused(harness.commit("x", "base").await),
        Code::FailedPrecondition
    );
    assert_eq!(
        refused(harness.commit("base", "active").await),
        Code::AlreadyExists
    );
    assert_eq!(refused(harness.mounts("base").await), Code::FailedPrecondition);
    assert_eq!(refused(harness.mounts("nobody").await), Code::NotFound);
    assert_eq!(harness.stat("active").await.unwrap().kind(), Kind::Active);
}

#[tokio::test]
async fn mounts_are_the_same_again() {
    let harness = Harness::start().await;
    harness.layer("base", "", |_| {}).await;
    harness.layer("top", "base", |_| {}).await;
    let first = harness.prepare("active", "top").await.unwrap();
    assert_eq!(harness.mounts("active").await.unwrap(), first);
    let first = harness.view("view", "top").await.unwrap();
    assert_eq!(harness.mounts("view").await.unwrap(), first);
}

#[tokio::test]
async fn commit_replaces_labels_and_empty_ones_are_dropped() {
    let harness = Harness::start().await;
    harness
        .prepare_with("key", "", &[("a", "1"), ("empty", "")])
        .await
        .unwrap();
    assert_eq!(
        harness.stat("key").await.unwrap().labels,
        HashMap::from([("a".into(), "1".into())])
    );
    harness
        .commit_with("name", "key", &[("b", "2"), ("empty", "")])
        .await
        .unwrap();
    assert_eq!(
        harness.stat("name").await.unwrap().labels,
        HashMap::from([("b".into(), "2".into())])
    );
}

fn time(timestamp: Option<prost_types::Timestamp>) -> SystemTime {
    timestamp
        .expect("times are set")
        .try_into()
        .expect("times are valid")
}

/// Two committed, two active, two views, all with the labels `l1` and `l2`.
async fn six(harness: &Harness) -> Vec<Info> {
    let labels = [("l1", "v1"), ("l2", "v2")];
    for (name, key, parent) in [("c1", "k1", ""), ("c2", "k2", "c1")] {
        harness.prepare(key, parent).await.unwrap();
        harness.commit_with(name, key, &labels).await.unwrap();
    }
    for (key, parent) in [("a1", "c2"), ("a2", "c2")] {
        harness.prepare_with(key, parent, &labels).await.unwrap();
    }
    for (key, parent) in [("v1", "c1"), ("v2", "c2")] {
        harness.view(key, parent).await.unwrap();
        let info = Info {
            name: key.into(),
            labels: labels
                .iter()
                .map(|(key, value)| ((*key).into(), (*value).into()))
                .collect(),
            ..Info::default()
        };
        harness.update(info, &[]).await.unwrap();
    }
    harness.list(&[]).await.unwrap().0
}

#[tokio::test]
async fn update_changes_labels_and_nothing_else() {
    let before = SystemTime::now();
    let harness = Harness::start().await;
    for info in six(&harness).await {
        let created = time(info.created_at);
        assert!(before <= created && created <= SystemTime::now(), "{info:?}");
        if info.kind() != Kind::View {
            assert_eq!(info.created_at, info.updated_at, "{info:?}");
        }

        let foreign = Info {
            name: info.name.clone(),
            parent: "other".into(),
            kind: Kind::Active.into(),
            labels: HashMap::from([("l1".into(), "new".into()), ("l3".into(), "v3".into())]),
            ..Info::default()
        };
        let updated = harness.update(foreign.clone(), &[]).await.unwrap();
        assert_eq!(updated.labels, foreign.labels);
        assert_eq!((&updated.parent, updated.kind), (&info.parent, info.kind));
        assert_eq!(updated.created_at, info.created_at);
        assert!(time(updated.updated_at) > created);
        assert_eq!(harness.stat(&info.name).await.unwrap(), updated);

        let one = Info {
            labels: HashMap::from([("l1".into(), "newer".into()), ("l4".into(), "ignored".into())]),
            ..foreign.clone()
        };
        let updated = harness.update(one, &["labels.l1", "labels.l3"]).await.unwrap();
        assert_eq!(updated.labels, HashMap::from([("l1".into(), "newer".into())]));
        let updated = harness.update(foreign.clone(), &["labels"]).await.unwrap();
        assert_eq!(updated.labels, foreign.labels);
        let refusal = harness.update(foreign, &["parent"]).await;
        assert_eq!(refused(refusal), Code::InvalidArgument);
    }
    let nobody = Info {
        name: "nobody".into(),
        ..Info::default()
    };
    assert_eq!(refused(harness.update(nobody, &[]).await), Code::NotFound);
}

#[tokio::test]
async fn removed_keys_can_be_used_again() {
    let harness = Harness::start().await;
    assert_eq!(refused(harness.remove("key").await), Code::NotFound);
    harness.prepare("key", "").await.unwrap();
    harness.remove("key").await.unwrap();
    harness.view("key", "").await.unwrap();
    harness.remove("key").await.unwrap();
    harness.prepare("key", "").await.unwrap();
    harness.commit("name", "key").await.unwrap();
    harness.remove("name").await.unwrap();
    harness.prepare("key", "").await.unwrap();
    harness.commit("name", "key").await.unwrap();
}

#[tokio::test]
async fn removal_goes_from_the_top() {
    let harness = Harness::start().await;
    harness.layer("base", "", |_| {}).await;
    harness.layer("middle", "base", |_| {}).await;
    harness.prepare("active", "middle").await.unwrap();
    for key in ["base", "middle"] {
        assert_eq!(refused(harness.remove(key).await), Code::FailedPrecondition);
    }
    for key in ["active", "middle", "base"] {
        harness.remove(key).await.unwrap();
    }
}

#[tokio::test]
async fn a_fresh_root_is_open_to_all() {
    let harness = Harness::start().await;
    let mounts = harness.prepare("key", "").await.unwrap();
    let root = harness.mount(&mounts);
    assert_eq!(
        fs::metadata(root.path()).unwrap().permissions().mode() & 0o7777,
        0o755
    );
}
