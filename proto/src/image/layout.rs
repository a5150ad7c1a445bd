//! OCI image layouts: `oci-layout`, `index.json`, `blobs/<algorithm>/<hex>`.

pub(crate) mod folder;
pub(crate) mod writer;

use std::path::Path;

use oci_spec::image::{Descriptor, ImageIndex};

use super::local::{Blobs, Local, Slice};
use super::manifest::MANIFEST_LEN_MAX;
use super::{Error, RawManifest};

/// The marker file of a layout, with its version.
pub(crate) const MARKER: &str = "oci-layout";
/// What the marker file holds: the only version there is.
pub(crate) const MARKER_CONTENT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// The list of a layout's images.
pub(crate) const INDEX: &str = "index.json";
/// The folder of a layout's blobs.
pub(crate) const BLOBS: &str = "blobs";
/// The annotation that names an image in `index.json`.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Opens the image `tag` of a layout folder. Blocking.
pub(crate) fn open(path: &Path, tag: Option<&str>) -> Result<Local, Error> {
    let place = path.display().to_string();
    let index = Slice::open(&path.join(INDEX))?.read(MANIFEST_LEN_MAX)?;
    open_image(place, &index, Blobs::Folder(path.join(BLOBS)), tag)
}

/// Finds the image `tag` in `index.json` and reads its manifest. Blocking.
pub(crate) fn open_image(
    place: String,
    index: &[u8],
    blobs: Blobs,
    tag: Option<&str>,
) -> Result<Local, Error> {
    let entry = choose(&parse_index(index, &place)?, tag, &place)?;
    let bytes = blobs.slice(entry.digest(), &place)?.read(MANIFEST_LEN_MAX)?;
    let what = format!("manifest {} in {place}", entry.digest());
    let root = RawManifest::checked(
        &what,
        bytes,
        Some(entry.digest()),
        Some(entry.media_type().clone()),
    )?;
    Ok(Local { place, root, blobs })
}

fn parse_index(index: &[u8], place: &str) -> Result<ImageIndex, Error> {
    serde_json::from_slice(index).map_err(|error| Error::invalid(format!("{INDEX} in {place}"), &error))
}

/// The name of an entry of `index.json`.
fn name_of(entry: &Descriptor) -> Option<&str> {
    entry.annotations().as_ref()?.get(REF_NAME).map(String::as_str)
}

/// The entry called `tag`; without a tag, the only entry there is.
fn choose(index: &ImageIndex, tag: Option<&str>, place: &str) -> Result<Descriptor, Error> {
    let entries = index.manifests();
    let absent = |what| {
        Err(Error::NotFound {
            what,
            place: place.to_owned(),
        })
    };
    match (tag, entries.as_slice()) {
        (_, []) => Err(Error::Empty {
            place: place.to_owned(),
        }),
        (Some(tag), _) => match entries.iter().find(|entry| name_of(entry) == Some(tag)) {
            Some(entry) => Ok(entry.clone()),
            None => absent(format!("image {tag:?} (there: {})", names(entries))),
        },
        (None, [entry]) => Ok(entry.clone()),
        (None, _) => Err(Error::Several {
            place: place.to_owned(),
            which: ":TAG",
            names: names(entries),
        }),
    }
}

/// The names of the first entries, for errors.
fn names(entries: &[Descriptor]) -> String {
    const SHOWN_MAX: usize = 8;
    let mut names: Vec<_> = entries.iter().filter_map(name_of).take(SHOWN_MAX).collect();
    if names.is_empty() {
        return "none with a name".to_owned();
    }
    if entries.len() > SHOWN_MAX {
        names.push("...");
    }
    names.join(", ")
}
