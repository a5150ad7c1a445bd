//! `List`, `Usage`, `Cleanup`.

use std::fs;

use rstest::rstest;
use tonic::Code;

use crate::harness::{Harness, refused};

async fn populated() -> Harness {
    let harness = Harness::start().await;
    harness.prepare_with("k", "", &[]).await.unwrap();
    harness
        .commit_with("base", "k", &[("stage", "one")])
        .await
        .unwrap();
    harness.prepare_with("k", "base", &[]).await.unwrap();
    harness
        .commit_with("top", "k", &[("stage", "two"), ("a/b.c", "x")])
        .await
        .unwrap();
    harness
        .prepare_with("active", "top", &[("stage", "two")])
        .await
        .unwrap();
    harness.view("view", "base").await.unwrap();
    harness
}

#[rstest]
#[case(&[], &["active", "base", "top", "view"])]
#[case(&["kind==committed"], &["base", "top"])]
#[case(&["kind==active"], &["active"])]
#[case(&["kind==view"], &["view"])]
#[case(&["name==base", "name==view"], &["base", "view"])]
#[case(&["labels.stage"], &["active", "base", "top"])]
#[case(&["labels.stage==two"], &["active", "top"])]
#[case(&[r#"labels."a/b.c""#], &["top"])]
#[case(&["parent==base"], &["top", "view"])]
#[case(&[r#"parent!="""#], &["active", "top", "view"])]
#[case(&["kind==committed,labels.stage==two"], &["top"])]
#[case(&["name~=/^(top|view)$/"], &["top", "view"])]
#[tokio::test]
async fn matching(#[case] filters: &[&str], #[case] wanted: &[&str]) {
    assert_eq!(populated().await.names(filters).await, wanted);
}

#[tokio::test]
async fn bad_filters_are_refused() {
    let harness = Harness::start().await;
    assert_eq!(refused(harness.list(&["name=="]).await), Code::InvalidArgument);
}

#[tokio::test]
async fn long_lists_come_in_batches_and_block_nobody() {
    let harness = Harness::start().await;
    for index in 0..205 {
        harness.prepare(&format!("key {index}"), "").await.unwrap();
    }
    let (infos, batches) = harness.list(&[]).await.unwrap();
    assert_eq!((infos.len(), batches), (205, 3));

    let mut stream = harness
        .client
        .clone()
        .list(proto::snapshots::ListSnapshotsRequest::default())
        .await
        .unwrap();
    let first = stream.get_mut().message().await.unwrap().unwrap();
    for info in first.info {
        assert_eq!(harness.stat(&info.name).await.unwrap(), info);
    }
    harness.remove("key 150").await.unwrap();
    let mut rest = Vec::new();
    while let Some(batch) = stream.get_mut().message().await.unwrap() {
        rest.extend(batch.info);
    }
    assert!(rest.iter().any(|info| info.name == "key 204"));
}

#[tokio::test]
async fn usage_is_that_of_the_snapshot_alone() {
    let harness = Harness::start().await;
    harness
        .layer("base", "", |root| {
            fs::write(root.join("a"), vec![1; 1_000_000]).unwrap()
        })
        .await;
    let base = harness.usage("base").await.unwrap();
    assert!(base.size >= 1_000_000 && base.inodes == 2, "{base:?}");
    harness.prepare("active", "base").await.unwrap();
    let empty = harness.usage("active").await.unwrap();
    assert_eq!(empty.inodes, 1);
    assert!(empty.size < 100_000, "{empty:?}");
    let mounts = harness.mounts("active").await.unwrap();
    let root = harness.mount(&mounts);
    fs::write(root.path().join("b"), vec![1; 500_000]).unwrap();
    let grown = harness.usage("active").await.unwrap();
    assert!(grown.size >= 500_000 && grown.inodes == 2, "{grown:?}");
    assert_eq!(refused(harness.usage("nobody").await), Code::NotFound);
}

fn folders(harness: &Harness) -> Vec<String> {
    let entries = fs::read_dir(harness.snapshots_dir()).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn cleanup_takes_back_folders_of_removed_snapshots_only() {
    let harness = Harness::start().await;
    harness.prepare("a", "").await.unwrap();
    harness.prepare("b", "").await.unwrap();
    harness.remove("a").await.unwrap();
    assert_eq!(folders(&harness), ["1", "2"], "removal itself deletes nothing");
    fs::create_dir(harness.snapshots_dir().join("new-foreign")).unwrap();
    fs::create_dir(harness.snapshots_dir().join("3")).unwrap();
    harness.cleanup().await;
    assert_eq!(
        folders(&harness),
        ["2", "3", "new-foreign"],
        "what is on its way in stays"
    );
    // The next snapshot gets number 3 although a folder is in its way.
    harness.prepare("c", "").await.unwrap();
    harness.cleanup().await;
    assert_eq!(folders(&harness), ["2", "3", "new-foreign"]);
    assert!(harness.snapshots_dir().join("3/fs").is_dir());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cleanup_takes_nothing_that_is_in_use() {
    let harness = Harness::start().await;
    let life = |index: usize| {
        let harness = &harness;
        async move {
            for round in 0..10 {
                let (key, name) = (format!("key {index}"), format!("name {index} {round}"));
                let mounts = harness.prepare(&key, "").await.unwrap();
                fs::write(format!("{}/own", mounts[0].source), "").unwrap();
                harness.commit(&name, &key).await.unwrap();
                harness.view(&key, &name).await.unwrap();
                harness.remove(&key).await.unwrap();
                harness.remove(&name).await.unwrap();
            }
        }
    };
    let cleaning = async {
        for _ in 0..40 {
            harness.cleanup().await;
        }
    };
    tokio::join!(futures::future::join_all((0..8).map(life)), cleaning);
    harness.cleanup().await;
    assert!(harness.names(&[]).await.is_empty());
    assert_eq!(folders(&harness), [""; 0]);
}

#[tokio::test]
async fn a_start_takes_back_everything_without_a_row() {
    let harness = Harness::start().await;
    harness.prepare("a", "").await.unwrap();
    for name in ["new-1-1", "dead-1-1", "7"] {
        fs::create_dir_all(harness.snapshots_dir().join(name).join("fs")).unwrap();
    }
    harness.engine.restore().await.unwrap();
    assert_eq!(folders(&harness), ["1"]);
}
