//! Every source of labels against every kind of ancestry.

use std::time::SystemTime;

use proptest::prelude::*;
use proto::lazy::{BLOB_ANNOTATION, BOOTSTRAP_ANNOTATION};
use rstest::rstest;

use super::{Plan, Reason, Stack, prepare, stack, view};
use crate::Error;
use crate::label::*;
use crate::store::{Kind, Labels, Origin, Role, Snapshot, SnapshotId, Usage};

const IMAGE: &str = "registry.example/app:1";

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn snapshot(id: u64, role: Role, origin: Option<Origin>) -> Snapshot {
    let now = SystemTime::now();
    Snapshot {
        id: SnapshotId(id),
        name: format!("s{id}"),
        parent: None,
        kind: Kind::Committed,
        role,
        origin,
        remote: None,
        labels: Labels::new(),
        created: now,
        updated: now,
        usage: Usage::default(),
        image: None,
        bootstrap_digest: None,
    }
}

fn origin() -> Origin {
    Origin {
        image: IMAGE.into(),
        manifest: None,
        layer: None,
    }
}

fn chain(roles: &[Role]) -> Vec<Snapshot> {
    let ids = (1..=roles.len() as u64).rev();
    ids.zip(roles)
        .map(|(id, role)| snapshot(id, *role, None))
        .collect()
}

const CRI: &[(&str, &str)] = &[
    (SNAPSHOT_REF, "sha256:c"),
    (CRI_IMAGE_REF, IMAGE),
    (CRI_LAYER_DIGEST, "sha256:l"),
    (CRI_MANIFEST_DIGEST, "sha256:m"),
];
const STARGZ: &[(&str, &str)] = &[
    (SNAPSHOT_REF, "sha256:c"),
    (STARGZ_REFERENCE, IMAGE),
    (STARGZ_DIGEST, "sha256:l"),
];
const TRANSFER: &[(&str, &str)] = &[(SNAPSHOT_REF, "sha256:c")];
const NONE: &[(&str, &str)] = &[];

fn with(base: &[(&'static str, &'static str)], mark: &'static str) -> Labels {
    let mut labels = labels(base);
    labels.insert(mark.into(), "true".into());
    labels
}

#[rstest]
#[case::cri(CRI, Some(("sha256:m", "sha256:l")))]
#[case::transfer_without_annotations(TRANSFER, None)]
fn data_layer_stays_remote(
    #[case] base: &[(&'static str, &'static str)],
    #[case] known: Option<(&str, &str)>,
) {
    let (plan, reason) = prepare(&with(base, BLOB_ANNOTATION), &[]).unwrap();
    let origin = known.map(|(manifest, layer)| Origin {
        image: IMAGE.into(),
        manifest: Some(manifest.into()),
        layer: Some(layer.into()),
    });
    assert_eq!(
        plan,
        Plan::RemoteData {
            reference: "sha256:c".into(),
            origin
        }
    );
    assert_eq!(reason, Reason::DataLayer);
}

#[test]
fn stargz_clients_name_the_image_too() {
    let (plan, _) = prepare(&with(STARGZ, BLOB_ANNOTATION), &[]).unwrap();
    let wanted = Origin {
        layer: Some("sha256:l".into()),
        ..origin()
    };
    assert_eq!(
        plan,
        Plan::RemoteData {
            reference: "sha256:c".into(),
            origin: Some(wanted)
        }
    );
}

#[rstest]
#[case::cri(CRI)]
#[case::stargz(STARGZ)]
fn bootstrap_layer_is_unpacked(#[case] base: &[(&'static str, &'static str)]) {
    let (plan, reason) = prepare(
        &with(base, BOOTSTRAP_ANNOTATION),
        &chain(&[Role::Data, Role::Data]),
    )
    .unwrap();
    assert!(matches!(plan, Plan::Bootstrap { origin } if origin.image == IMAGE));
    assert_eq!(reason, Reason::BootstrapLayer);
}

#[test]
fn bootstrap_inherits_the_image_of_the_data_below() {
    let parents = [snapshot(1, Role::Data, Some(origin()))];
    let (plan, _) = prepare(&with(TRANSFER, BOOTSTRAP_ANNOTATION), &parents).unwrap();
    assert_eq!(plan, Plan::Bootstrap { origin: origin() });
}

#[rstest]
#[case::transfer(TRANSFER, "sha256:c")]
#[case::nothing(NONE, "")]
fn bootstrap_without_image_is_refused(#[case] base: &[(&'static str, &'static str)], #[case] wanted: &str) {
    let error = prepare(&with(base, BOOTSTRAP_ANNOTATION), &chain(&[Role::Data])).unwrap_err();
    assert!(matches!(&error, Error::NoImageReference { layer } if layer == wanted));
    assert!(
        error.to_string().contains("disable_snapshot_annotations"),
        "{error}"
    );
}

#[rstest]
#[case::cri(CRI, Reason::PlainLayer)]
#[case::stargz(STARGZ, Reason::PlainLayer)]
#[case::transfer(TRANSFER, Reason::PlainLayer)]
#[case::none(NONE, Reason::NoTarget)]
fn plain_layer_is_ordinary(#[case] base: &[(&'static str, &'static str)], #[case] wanted: Reason) {
    let (plan, reason) = prepare(&labels(base), &chain(&[Role::Ordinary, Role::Ordinary])).unwrap();
    let layers = vec![SnapshotId(2), SnapshotId(1)];
    assert_eq!(plan, Plan::Ordinary(Stack { layers, image: None }));
    assert_eq!(reason, wanted);
}

#[test]
fn data_layer_without_target_is_unpacked_by_containerd() {
    let (plan, reason) = prepare(&with(NONE, BLOB_ANNOTATION), &[]).unwrap();
    assert_eq!(plan, Plan::Ordinary(Stack::default()));
    assert_eq!(reason, Reason::DataLayerUnnamed);
}

#[rstest]
#[case::container(NONE)]
#[case::layer_on_top(CRI)]
fn overlay_on_an_image(#[case] base: &[(&'static str, &'static str)]) {
    let parents = chain(&[Role::Ordinary, Role::Bootstrap, Role::Data, Role::Ordinary]);
    let (plan, reason) = prepare(&labels(base), &parents).unwrap();
    let wanted = Stack {
        layers: vec![SnapshotId(4)],
        image: Some(SnapshotId(3)),
    };
    assert_eq!(plan, Plan::OverImage(wanted.clone()));
    assert_eq!(reason, Reason::ImageBelow);
    assert_eq!(view(&parents).unwrap().0, Plan::OverImage(wanted));
}

#[test]
fn data_without_bootstrap_cannot_be_used() {
    let error = prepare(&labels(NONE), &chain(&[Role::Ordinary, Role::Data])).unwrap_err();
    assert!(matches!(error, Error::NoBootstrap { name } if name == "s1"));
}

fn any_role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Ordinary), Just(Role::Data), Just(Role::Bootstrap)]
}

proptest! {
    #[test]
    fn a_stack_is_the_part_above_the_first_image(roles in prop::collection::vec(any_role(), 0..8)) {
        let parents = chain(&roles);
        let ordinary = roles.iter().take_while(|role| **role == Role::Ordinary).count();
        match stack(Role::Ordinary, &parents) {
            Ok(stack) => {
                let ids: Vec<_> = parents[..ordinary].iter().map(|parent| parent.id).collect();
                prop_assert_eq!(stack.layers, ids);
                prop_assert_eq!(stack.image, parents.get(ordinary).map(|parent| parent.id));
                prop_assert!(parents.get(ordinary).is_none_or(|parent| parent.role == Role::Bootstrap));
            }
            Err(_) => prop_assert_eq!(roles[ordinary], Role::Data),
        }
    }

    #[test]
    fn a_bootstrap_stands_alone(roles in prop::collection::vec(any_role(), 0..8)) {
        prop_assert_eq!(stack(Role::Bootstrap, &chain(&roles)).unwrap(), Stack::default());
    }
}
