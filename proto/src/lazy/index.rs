//! Choosing a manifest from an index.

use oci_spec::image::{Descriptor, Platform};
use serde::Deserialize;

use super::{ARTIFACT_TYPE, OS_FEATURE};
use crate::image::Error;

/// Which kind of manifest is wanted where an index has both for a platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefer {
    /// RAFS, else plain.
    Rafs,
    /// Plain only.
    Plain,
}

/// An index whose entries are read twice: as descriptors, and for what [`Platform`] overlooks.
#[derive(Deserialize)]
struct Index {
    manifests: Vec<serde_json::Value>,
}

struct Entry {
    descriptor: Descriptor,
    is_rafs: bool,
}

impl Entry {
    fn read(value: serde_json::Value) -> serde_json::Result<Self> {
        // `Platform` looks for `os_features`; documents have `os.features`.
        let features = value["platform"]["os.features"].as_array();
        let has_feature =
            features.is_some_and(|features| features.iter().any(|feature| feature == OS_FEATURE));
        let is_rafs = has_feature || value["artifactType"] == ARTIFACT_TYPE;
        Ok(Self {
            descriptor: serde_json::from_value(value)?,
            is_rafs,
        })
    }

    /// A platform without a variant takes any.
    fn fits(&self, wanted: &Platform) -> bool {
        self.descriptor.platform().as_ref().is_some_and(|found| {
            found.os() == wanted.os()
                && found.architecture() == wanted.architecture()
                && (wanted.variant().is_none() || found.variant() == wanted.variant())
        })
    }
}

/// Chooses the manifest for `platform` from the bytes of an index.
///
/// An index with a single manifest that names no platform, as layout folders have, gives that one.
///
/// # Errors
/// [`Error::Invalid`] when the bytes are no index, [`Error::NotFound`] when nothing fits.
pub fn choose(index: &[u8], platform: &Platform, prefer: Prefer) -> Result<Descriptor, Error> {
    let entries = read(index)?;
    let fitting = || entries.iter().filter(|entry| entry.fits(platform));
    let plain = || fitting().find(|entry| !entry.is_rafs);
    let chosen = match prefer {
        Prefer::Rafs => fitting().find(|entry| entry.is_rafs).or_else(plain),
        Prefer::Plain => plain(),
    };
    match (chosen, entries.as_slice()) {
        (Some(entry), _) => Ok(entry.descriptor.clone()),
        (None, [only]) if only.descriptor.platform().is_none() => Ok(only.descriptor.clone()),
        (None, _) => {
            let found: Vec<_> = entries
                .iter()
                .filter_map(|entry| entry.descriptor.platform().as_ref())
                .map(name)
                .collect();
            let what = format!("image for {} (there: {})", name(platform), found.join(", "));
            Err(Error::NotFound {
                what,
                place: "the image index".to_owned(),
            })
        }
    }
}

/// How many manifests of an index say that they are for `platform`. Readers may choose differently among several.
///
/// # Errors
/// [`Error::Invalid`] when the bytes are no index.
pub fn fitting_count(index: &[u8], platform: &Platform) -> Result<usize, Error> {
    let entries = read(index)?;
    Ok(entries.iter().filter(|entry| entry.fits(platform)).count())
}

fn read(index: &[u8]) -> Result<Vec<Entry>, Error> {
    let index = serde_json::from_slice(index);
    let entries = index.and_then(|index: Index| index.manifests.into_iter().map(Entry::read).collect());
    entries.map_err(|error| Error::invalid("image index", &error))
}

fn name(platform: &Platform) -> String {
    let variant = platform
        .variant()
        .as_ref()
        .map(|variant| format!("/{variant}"))
        .unwrap_or_default();
    format!("{}/{}{variant}", platform.os(), platform.architecture())
}
