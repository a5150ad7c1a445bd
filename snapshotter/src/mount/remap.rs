//! Ids of a container that runs in a user namespace: how they map to the node's, as containerd asks for it in labels.

use crate::label::{GID_MAPPING, UID_MAPPING};
use crate::plan::Stack;
use crate::store::Labels;
use crate::{Error, Result};

/// Mappings that one snapshot may have: the kernel takes no more for a namespace.
const MAPPINGS_MAX: usize = 340;

/// How the ids in a snapshot map to those of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remap {
    users: String,
    groups: String,
    root: (u32, u32),
}

impl Remap {
    /// What the labels of a snapshot ask for, if they do.
    ///
    /// # Errors
    /// One label is there without the other, a mapping is not `CONTAINER:HOST:COUNT[,...]`, or root has none.
    pub fn of(labels: &Labels) -> Result<Option<Self>> {
        let (users, groups) = match (labels.get(UID_MAPPING), labels.get(GID_MAPPING)) {
            (None, None) => return Ok(None),
            (Some(users), Some(groups)) => (users, groups),
            (Some(_), None) => return Err(invalid(GID_MAPPING, "it is missing beside the other")),
            (None, Some(_)) => return Err(invalid(UID_MAPPING, "it is missing beside the other")),
        };
        Ok(Some(Self {
            root: (host_root(UID_MAPPING, users)?, host_root(GID_MAPPING, groups)?),
            users: users.clone(),
            groups: groups.clone(),
        }))
    }

    /// User and group of the node that the container's root is.
    pub fn root(&self) -> (u32, u32) {
        self.root
    }

    /// The mount options. The kernel never sees them: containerd 2 maps lower folders by them, or what it binds.
    pub(super) fn options(&self) -> [String; 2] {
        [
            format!("uidmap={}", self.users),
            format!("gidmap={}", self.groups),
        ]
    }
}

/// Refuses to map ids where they may not be, or where containerd would lose files: the one folder that it clones for all
/// layers has the files of unpacked layers in it, but not those of an image that is mounted elsewhere.
pub fn check_remap(may_remap: bool, stack: &Stack) -> Result<()> {
    let refused = |reason: &str| Err(invalid("labels", reason));
    match may_remap {
        false => refused(
            "ids are to be mapped, which is off; hint: set overlay.remap_ids = true, or take the capability remap-ids \
             out of containerd's configuration",
        ),
        true if stack.image.is_some() && !stack.layers.is_empty() => refused(
            "ids cannot be mapped where unpacked layers lie on a lazily loaded image; hint: convert the whole image",
        ),
        true => Ok(()),
    }
}

/// Which id of the node a mapping gives to 0.
fn host_root(label: &'static str, mappings: &str) -> Result<u32> {
    let mut root = None;
    for (place, mapping) in mappings.split(',').enumerate() {
        let numbers: Vec<u32> = (mapping.split(':'))
            .map(|number| {
                number
                    .parse()
                    .map_err(|_| invalid(label, "not CONTAINER:HOST:COUNT"))
            })
            .collect::<Result<_>>()?;
        let &[container, host, count] = numbers.as_slice() else {
            return Err(invalid(label, "not CONTAINER:HOST:COUNT"));
        };
        // An end beyond the largest id would wrap round to another user.
        let is_inside = |first: u32| count > 0 && first.checked_add(count - 1).is_some();
        if place >= MAPPINGS_MAX || !is_inside(container) || !is_inside(host) {
            return Err(invalid(label, "more, or larger, than ids can be mapped"));
        }
        if container == 0 {
            root = Some(host);
        }
    }
    root.ok_or_else(|| invalid(label, "it maps no root"))
}

fn invalid(field: &'static str, reason: &str) -> Error {
    Error::Invalid {
        field,
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::store::SnapshotId;

    fn of(users: Option<&str>, groups: Option<&str>) -> Result<Option<Remap>> {
        let pairs = [(UID_MAPPING, users), (GID_MAPPING, groups)];
        let labels = pairs
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())));
        Remap::of(&labels.collect())
    }

    #[test]
    fn labels_are_taken() {
        assert_eq!(of(None, None).unwrap(), None);
        let remap = of(Some("0:1000:65536"), Some("1:5:1,0:70000:1"))
            .unwrap()
            .unwrap();
        assert_eq!(remap.root(), (1000, 70000));
        assert_eq!(remap.options(), ["uidmap=0:1000:65536", "gidmap=1:5:1,0:70000:1"]);
        let last = format!("0:{}:1", u32::MAX);
        assert_eq!(of(Some(&last), Some(&last)).unwrap().unwrap().root().0, u32::MAX);
    }

    #[rstest]
    #[case("")]
    #[case("0:1000")]
    #[case("0:1000:1:1")]
    #[case("0:-1:1")]
    #[case("0:1000:0")]
    #[case("1:1000:5")]
    #[case("0:4294967295:2")]
    #[case("0:1000:65536,")]
    fn bad_labels_are_refused(#[case] bad: &str) {
        assert!(of(Some(bad), Some("0:0:1")).is_err());
        assert!(of(Some("0:0:1"), Some(bad)).is_err());
    }

    #[test]
    fn what_would_lose_files_is_refused() {
        let [one, two] = [1, 2].map(SnapshotId);
        let stack = |layers: &[SnapshotId], image| Stack {
            layers: layers.to_vec(),
            image,
        };
        check_remap(true, &stack(&[], Some(one))).unwrap();
        check_remap(true, &stack(&[two, one], None)).unwrap();
        assert!(check_remap(true, &stack(&[two], Some(one))).is_err());
        assert!(check_remap(false, &stack(&[], Some(one))).is_err());
    }

    #[test]
    fn one_label_alone_is_refused() {
        assert!(of(Some("0:0:1"), None).is_err());
        assert!(of(None, Some("0:0:1")).is_err());
    }
}
