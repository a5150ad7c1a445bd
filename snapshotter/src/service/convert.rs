//! Between containerd's messages and our own types.

use proto::snapshots::{Info, Kind as WireKind, UsageResponse};

use crate::store::{Kind, LabelChange, Snapshot, Usage};
use crate::{Error, Result, label};

/// Field masks may name single labels behind this.
const LABEL_PATH_PREFIX: &str = "labels.";

/// A snapshot as containerd sees it.
pub(super) fn info(snapshot: Snapshot) -> Info {
    let kind = match snapshot.kind {
        Kind::View => WireKind::View,
        Kind::Active => WireKind::Active,
        Kind::Committed => WireKind::Committed,
    };
    Info {
        parent: snapshot.parent_name().to_owned(),
        name: snapshot.name,
        kind: kind.into(),
        created_at: Some(snapshot.created.into()),
        updated_at: Some(snapshot.updated.into()),
        labels: snapshot.labels.into_iter().collect(),
    }
}

/// What an update asks for. Only labels can change: all of them, or those the mask names.
pub(super) fn label_change(mut info: Info, mask: &[String]) -> Result<LabelChange> {
    if mask.is_empty() || mask.iter().any(|path| path == "labels") {
        if let Some(path) = mask.iter().find(|path| !is_label_path(path)) {
            return Err(immutable(path));
        }
        return Ok(LabelChange::Replace(label::from_request(info.labels)));
    }
    let edits = mask
        .iter()
        .map(|path| match path.strip_prefix(LABEL_PATH_PREFIX) {
            Some(key) => Ok((key.to_owned(), info.labels.remove(key))),
            None => Err(immutable(path)),
        });
    edits.collect::<Result<_>>().map(LabelChange::Edit)
}

/// Space as containerd sees it.
pub(super) fn usage(usage: Usage) -> UsageResponse {
    UsageResponse {
        size: i64::try_from(usage.bytes).unwrap_or(i64::MAX),
        inodes: i64::try_from(usage.inodes).unwrap_or(i64::MAX),
    }
}

fn is_label_path(path: &str) -> bool {
    path == "labels" || path.starts_with(LABEL_PATH_PREFIX)
}

fn immutable(path: &str) -> Error {
    Error::Invalid {
        field: "update_mask",
        reason: format!("cannot update {path:?}, only labels can change"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rstest::rstest;

    use super::*;
    use crate::store::Labels;

    fn info(labels: &[(&str, &str)]) -> Info {
        let labels: HashMap<_, _> = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        Info {
            name: "n".into(),
            labels,
            ..Info::default()
        }
    }

    fn all(labels: &[(&str, &str)]) -> LabelChange {
        let pairs = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        LabelChange::Replace(pairs.collect::<Labels>())
    }

    fn some(edits: &[(&str, Option<&str>)]) -> LabelChange {
        LabelChange::Edit(
            edits
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned)))
                .collect(),
        )
    }

    #[rstest]
    #[case(&[], all(&[("a", "1")]))]
    #[case(&["labels"], all(&[("a", "1")]))]
    #[case(&["labels", "labels.a"], all(&[("a", "1")]))]
    #[case(&["labels.a"], some(&[("a", Some("1"))]))]
    #[case(&["labels.b", "labels.a"], some(&[("b", None), ("a", Some("1"))]))]
    #[case(&["labels.dotted.key"], some(&[("dotted.key", None)]))]
    fn masks(#[case] mask: &[&str], #[case] wanted: LabelChange) {
        let mask: Vec<_> = mask.iter().map(|path| (*path).to_owned()).collect();
        assert_eq!(
            label_change(info(&[("a", "1"), ("empty", "")]), &mask).unwrap(),
            wanted
        );
    }

    #[rstest]
    #[case(&["parent"])]
    #[case(&["kind", "labels"])]
    #[case(&["labels.a", "name"])]
    #[case(&[""])]
    fn nothing_else_can_change(#[case] mask: &[&str]) {
        let mask: Vec<_> = mask.iter().map(|path| (*path).to_owned()).collect();
        assert!(matches!(
            label_change(info(&[]), &mask),
            Err(Error::Invalid { .. })
        ));
    }
}
