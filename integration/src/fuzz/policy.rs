//! What clients and operators say to the daemon: filters, labels, the configuration.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use proto::lazy::{BLOB_ANNOTATION, BOOTSTRAP_ANNOTATION};
use snapshotter::config::Config;
use snapshotter::filter::{Filters, Subject};
use snapshotter::label;
use snapshotter::plan::{self, Plan};
use snapshotter::store::{Kind, Role, Snapshot, SnapshotId, Usage};

use super::take;

/// Ancestors of a planned snapshot.
const PARENT_COUNT_MAX: u8 = 16;

/// Reads a filter and asks it about two snapshots.
///
/// An error points into the filter.
pub fn filter(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let labels = BTreeMap::from([("a/b.c".to_owned(), "value".to_owned())]);
    match Filters::parse(&[text]) {
        Ok(filters) => {
            for (name, kind) in [("", Kind::Active), ("k8s.io/1/name", Kind::Committed)] {
                filters.matches(&Subject {
                    name,
                    parent: "parent",
                    kind,
                    labels: &labels,
                });
            }
        }
        Err(error) => {
            assert_eq!(error.input, text);
            assert!(error.position <= text.len() && !error.reason.is_empty());
        }
    }
}

/// Plans a snapshot: a byte for the number of ancestors, one for each, then lines `label=value`.
///
/// Only marked layers stay in the registry, and what a snapshot stands on are its ancestors.
pub fn labels(input: &[u8]) {
    let mut rest = input;
    let [count] = take(&mut rest);
    let parents: Vec<_> = (0..count % (PARENT_COUNT_MAX + 1))
        .map(|number| {
            let [shape] = take(&mut rest);
            parent(number, shape)
        })
        .collect();
    let text = String::from_utf8_lossy(rest);
    let request: HashMap<_, _> = text.lines().filter_map(label_of).collect();
    let labels = label::from_request(request);
    assert!(labels.values().all(|value| !value.is_empty()));
    if let Ok((plan, reason)) = plan::prepare(&labels, &parents) {
        assert!(!reason.code().is_empty());
        match plan {
            Plan::RemoteData { reference, .. } => {
                assert!(labels.contains_key(BLOB_ANNOTATION));
                assert_eq!(labels.get(label::SNAPSHOT_REF), Some(&reference));
            }
            Plan::Bootstrap { .. } => assert!(labels.contains_key(BOOTSTRAP_ANNOTATION)),
            local => assert_local(&local, &parents),
        }
    }
    if let Ok((plan, _)) = plan::view(&parents) {
        assert_local(&plan, &parents);
    }
}

fn assert_local(plan: &Plan, parents: &[Snapshot]) {
    let (stack, over_image) = match plan {
        Plan::Ordinary(stack) => (stack, false),
        Plan::OverImage(stack) => (stack, true),
        other => panic!("{other:?} is no overlay"),
    };
    assert_eq!(stack.image.is_some(), over_image);
    let stands_on = stack.layers.iter().chain(&stack.image);
    let ids: Vec<_> = parents.iter().map(|parent| parent.id).collect();
    assert!(
        stands_on
            .copied()
            .eq(ids.into_iter().take(stack.layers.len() + usize::from(over_image)))
    );
}

fn parent(number: u8, shape: u8) -> Snapshot {
    Snapshot {
        id: SnapshotId(u64::from(number)),
        name: number.to_string(),
        parent: None,
        kind: Kind::Committed,
        role: match shape % 4 {
            0 | 1 => Role::Ordinary,
            2 => Role::Data,
            _ => Role::Bootstrap,
        },
        origin: None,
        remote: None,
        labels: BTreeMap::new(),
        created: SystemTime::UNIX_EPOCH,
        updated: SystemTime::UNIX_EPOCH,
        usage: Usage::default(),
        image: None,
        bootstrap_digest: None,
    }
}

fn label_of(line: &str) -> Option<(String, String)> {
    let (key, value) = line.split_once('=')?;
    Some((key.to_owned(), value.to_owned()))
}

/// Reads a configuration.
///
/// One that passes the check is printed as one that says the same.
pub fn config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let Ok(config) = Config::parse(text) else { return };
    if config.check().is_err() {
        return;
    }
    let printed = toml::to_string(&config).expect("every configuration can be printed");
    assert_eq!(Config::parse(&printed).expect("what was printed is read"), config);
}
