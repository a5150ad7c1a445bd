//! What `docker save` writes (`docker-archive:`): `manifest.json`, configs and layers in a tar.
//!
//! An OCI manifest is made up from it. Layers are plain tars there, so a layer's digest is its diff id; the newer form
//! keeps them, compressed or not, as `blobs/sha256/<hex>` and so names their digests itself.

use std::collections::HashMap;
use std::path::Path;

use bytes::Bytes;
use oci_spec::image::{Descriptor, Digest, ImageManifestBuilder, MediaType};
use serde::Deserialize;

use super::archive::{Archive, blob_digest};
use super::digest::{Hasher, sha256_of};
use super::local::{Blobs, Local, Slice};
use super::manifest::MANIFEST_LEN_MAX;
use super::{Error, RawManifest, Reference};

/// The list of images in an archive.
const LIST: &str = "manifest.json";

/// One image of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The part of an image config that is needed here.
#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<Digest>,
}

/// Opens the image `tag` of an archive. Blocking.
pub(crate) fn open(path: &Path, tag: Option<&str>) -> Result<Local, Error> {
    let archive = Archive::open(path)?;
    let place = path.display().to_string();
    let what = format!("{LIST} in {place}");
    let list = archive.file(LIST)?.read(MANIFEST_LEN_MAX)?;
    let entries: Vec<Entry> = serde_json::from_slice(&list).map_err(|error| Error::invalid(&what, &error))?;
    let entry = choose(&entries, tag, &place)?;

    let config = archive.file(&entry.config)?;
    let config_bytes = config.read(MANIFEST_LEN_MAX)?;
    let config_digest = sha256_of(&config_bytes);
    let parsed: Config = serde_json::from_slice(&config_bytes)
        .map_err(|error| Error::invalid(format!("config {} in {place}", entry.config), &error))?;
    let diff_ids = parsed.rootfs.diff_ids;
    if diff_ids.len() != entry.layers.len() {
        let reason = format!(
            "{} layers, but {} diff ids in the config",
            entry.layers.len(),
            diff_ids.len()
        );
        return Err(Error::invalid(what, &reason));
    }

    let mut slices = HashMap::from([(config_digest.clone(), config.clone())]);
    let mut layers = Vec::with_capacity(diff_ids.len());
    for (name, diff_id) in entry.layers.iter().zip(diff_ids) {
        let slice = archive.file(name)?;
        let (media_type, digest) = identify(slice, name, diff_id)?;
        layers.push(Descriptor::new(media_type, slice.len(), digest.clone()));
        slices.insert(digest, slice.clone());
    }
    let config = Descriptor::new(MediaType::ImageConfig, config.len(), config_digest);
    let root = manifest(config, layers).map_err(|reason| Error::invalid(what, &reason))?;
    Ok(Local {
        place,
        root,
        blobs: Blobs::Slices(slices),
    })
}

/// The image that `tag` names: a reference, or `@N`; without a tag, the only one.
fn choose<'a>(entries: &'a [Entry], tag: Option<&str>, place: &str) -> Result<&'a Entry, Error> {
    let absent = |what: String| Error::NotFound {
        what,
        place: place.to_owned(),
    };
    let Some(tag) = tag else {
        return match entries {
            [entry] => Ok(entry),
            [] => Err(Error::Empty {
                place: place.to_owned(),
            }),
            _ => Err(Error::Several {
                place: place.to_owned(),
                which: ":REFERENCE",
                names: names(entries),
            }),
        };
    };
    if let Some(position) = tag.strip_prefix('@') {
        let entry = position
            .parse()
            .ok()
            .and_then(|position: usize| entries.get(position));
        return entry.ok_or_else(|| absent(format!("image {tag}")));
    }
    let wanted: Reference = tag.parse()?;
    let has_name = |entry: &&Entry| {
        let names = entry.repo_tags.iter().flatten();
        names
            .filter_map(|name| name.parse::<Reference>().ok())
            .any(|name| name == wanted)
    };
    entries
        .iter()
        .find(has_name)
        .ok_or_else(|| absent(format!("image {tag} (there: {})", names(entries))))
}

fn names(entries: &[Entry]) -> String {
    const SHOWN_MAX: usize = 8;
    let names = entries.iter().flat_map(|entry| entry.repo_tags.iter().flatten());
    let names: Vec<_> = names.take(SHOWN_MAX).map(String::as_str).collect();
    if names.is_empty() {
        "none with a name, try @0".to_owned()
    } else {
        names.join(", ")
    }
}

/// Media type and digest of a layer.
fn identify(slice: &Slice, name: &str, diff_id: Digest) -> Result<(MediaType, Digest), Error> {
    let start = slice.part(&(0..slice.len().min(4)))?.read(4)?;
    let media_type = match start.as_ref() {
        [0x1f, 0x8b, ..] => MediaType::ImageLayerGzip,
        [0x28, 0xb5, 0x2f, 0xfd] => MediaType::ImageLayerZstd,
        _ => return Ok((MediaType::ImageLayer, diff_id)),
    };
    let digest = match blob_digest(name) {
        Some(digest) => digest,
        None => hash(slice.clone())?,
    };
    Ok((media_type, digest))
}

fn hash(mut slice: Slice) -> Result<Digest, Error> {
    let mut hasher = Hasher::sha256();
    while let Some(bytes) = slice.next_piece()? {
        hasher.update(&bytes);
    }
    Ok(hasher.finish())
}

fn manifest(config: Descriptor, layers: Vec<Descriptor>) -> Result<RawManifest, String> {
    let manifest = ImageManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .config(config)
        .layers(layers)
        .build()
        .map_err(|error| error.to_string())?;
    let bytes = Bytes::from(serde_json::to_vec(&manifest).map_err(|error| error.to_string())?);
    Ok(RawManifest {
        media_type: MediaType::ImageManifest,
        digest: sha256_of(&bytes),
        bytes,
    })
}
