//! The store against a map: whatever the calls and their order, both say the same.

use std::collections::BTreeMap;
use std::mem::discriminant;

use proptest::prelude::*;

use super::*;

/// Few names, so that calls meet.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Debug, Clone)]
enum Call {
    Create(&'static str, Option<&'static str>, Kind),
    Commit(&'static str, &'static str),
    Label(&'static str, Option<&'static str>),
    Remove(&'static str),
    Reopen,
}

fn any_call() -> impl Strategy<Value = Call> {
    let name = || prop::sample::select(&NAMES[..]);
    let kind = prop_oneof![Just(Kind::Active), Just(Kind::View)];
    prop_oneof![
        4 => (name(), prop::option::of(name()), kind).prop_map(|(name, parent, kind)| Call::Create(name, parent, kind)),
        4 => (name(), name()).prop_map(|(key, name)| Call::Commit(key, name)),
        1 => (name(), prop::option::of(Just("x"))).prop_map(|(name, value)| Call::Label(name, value)),
        2 => name().prop_map(Call::Remove),
        1 => Just(Call::Reopen),
    ]
}

/// What the map remembers of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    parent: String,
    kind: Kind,
    labels: Labels,
}

#[derive(Default)]
struct Model(BTreeMap<String, Entry>);

impl Model {
    fn get(&self, name: &str) -> Result<&Entry> {
        self.0
            .get(name)
            .ok_or_else(|| Error::NotFound { name: name.into() })
    }

    fn require_free(&self, name: &str) -> Result<()> {
        if self.0.contains_key(name) {
            Err(Error::AlreadyExists { name: name.into() })
        } else {
            Ok(())
        }
    }

    fn apply(&mut self, call: &Call) -> Result<()> {
        match call {
            Call::Create(name, parent, kind) => {
                self.require_free(name)?;
                if let Some(parent) = parent {
                    let kind = self.get(parent)?.kind;
                    if kind != Kind::Committed {
                        return Err(Error::ParentNotCommitted {
                            parent: (*parent).into(),
                            kind,
                        });
                    }
                }
                let parent = parent.unwrap_or_default().to_owned();
                self.0.insert(
                    (*name).into(),
                    Entry {
                        parent,
                        kind: *kind,
                        labels: Labels::new(),
                    },
                );
            }
            Call::Commit(key, name) => {
                let entry = self.get(key)?.clone();
                if entry.kind != Kind::Active {
                    return Err(Error::WrongKind {
                        name: (*key).into(),
                        kind: entry.kind,
                        operation: "committed",
                    });
                }
                self.require_free(name)?;
                self.0.remove(*key);
                self.0.insert(
                    (*name).into(),
                    Entry {
                        kind: Kind::Committed,
                        labels: Labels::new(),
                        ..entry
                    },
                );
            }
            Call::Label(name, value) => {
                self.get(name)?;
                let labels = value
                    .map(|value| ("label".to_owned(), value.to_owned()))
                    .into_iter()
                    .collect();
                self.0
                    .entry((*name).into())
                    .and_modify(|entry| entry.labels = labels);
            }
            Call::Remove(name) => {
                self.get(name)?;
                if self.0.values().any(|entry| entry.parent == *name) {
                    return Err(Error::HasChildren { name: (*name).into() });
                }
                self.0.remove(*name);
            }
            Call::Reopen => {}
        }
        Ok(())
    }
}

fn apply(store: &Store, call: &Call) -> Result<()> {
    match call {
        Call::Create(name, parent, kind) => store
            .create(&new(name, parent.unwrap_or_default(), *kind), placed)
            .map(drop),
        Call::Commit(key, name) => store
            .commit(key, name, Labels::new(), Content::default())
            .map(drop),
        Call::Label(name, value) => {
            let edit = ("label".to_owned(), value.map(str::to_owned));
            store.update(name, LabelChange::Edit(vec![edit])).map(drop)
        }
        Call::Remove(name) => store.remove(name).map(drop),
        Call::Reopen => Ok(()),
    }
}

fn contents(store: &Store) -> BTreeMap<String, Entry> {
    let all = store.page(SnapshotId(0), usize::MAX).unwrap();
    all.into_iter()
        .map(|snapshot| {
            let parent = snapshot.parent_name().to_owned();
            (
                snapshot.name,
                Entry {
                    parent,
                    kind: snapshot.kind,
                    labels: snapshot.labels,
                },
            )
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn store_and_map_agree(calls in prop::collection::vec(any_call(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, mut model) = (open(dir.path()), Model::default());
        let mut last = SnapshotId(0);
        for call in &calls {
            if let Call::Reopen = call {
                drop(store);
                store = open(dir.path());
            }
            match (apply(&store, call), model.apply(call)) {
                (Ok(()), Ok(())) => {}
                (Err(ours), Err(theirs)) => prop_assert_eq!(discriminant(&ours), discriminant(&theirs), "{} {}", ours, theirs),
                (ours, theirs) => prop_assert!(false, "{call:?}: {ours:?} against {theirs:?}"),
            }
            prop_assert_eq!(&contents(&store), &model.0);
            let census = store.census().unwrap();
            prop_assert!(census.last >= last && census.live.iter().all(|id| *id <= census.last));
            last = census.last;
        }
    }
}
