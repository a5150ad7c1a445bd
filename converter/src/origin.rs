//! The image to convert: found, chosen for the platform, and checked to be one that can be converted.

use oci_spec::image::{Descriptor, Digest, ImageManifest, MediaType};
use proto::image::{ImageSource, Platform, RawManifest};
use proto::lazy::{self, Prefer};
use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Refusal};

/// Indexes may point to indexes; nobody nests deeper.
const INDEX_DEPTH_MAX: usize = 4;
/// Configs hold history and labels; the largest seen are some hundred KiB.
const CONFIG_LEN_MAX: u64 = 8 << 20;

const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYERS: [&str; 4] = [
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];

/// A manifest and where it came from.
#[derive(Clone, Debug)]
pub struct Found {
    /// The manifest.
    pub manifest: ImageManifest,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub len: u64,
}

/// An image that can be converted.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) found: Found,
    /// The config as it stands, so that members we do not know survive.
    pub(crate) config: Value,
    /// Lowest first, each with the digest of its uncompressed bytes.
    pub(crate) layers: Vec<(Descriptor, Digest)>,
}

/// The parts of a config that are read.
#[derive(Deserialize)]
struct Config {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<Digest>,
}

/// Finds the manifest, through indexes, for `platform` (the host's if `None`).
pub async fn find(source: &ImageSource, platform: Option<&Platform>, prefer: Prefer) -> Result<Found, Error> {
    let mut raw = source.root_manifest().await?;
    for _ in 0..INDEX_DEPTH_MAX {
        if !raw.is_index() {
            return manifest(&raw);
        }
        let wanted = platform.cloned().unwrap_or_else(Platform::host).to_oci();
        let chosen = lazy::choose(&raw.bytes, &wanted, prefer).map_err(|source| Error::Platform {
            index: raw.digest.to_string(),
            source: Box::new(source),
        })?;
        raw = source.manifest(chosen.digest()).await?;
    }
    let what = format!("index {}", raw.digest);
    Err(refused(&what, Refusal::NotAnImage("index of indexes".to_owned())))
}

fn manifest(raw: &RawManifest) -> Result<Found, Error> {
    let what = format!("manifest {}", raw.digest);
    let manifest = parse(&what, &raw.bytes)?;
    Ok(Found {
        manifest,
        digest: raw.digest.clone(),
        len: raw.bytes.len() as u64,
    })
}

impl Origin {
    /// Finds the image and checks everything that can be known before a layer is read.
    pub(crate) async fn find(source: &ImageSource, platform: Option<&Platform>) -> Result<Self, Error> {
        let found = find(source, platform, Prefer::Plain).await?;
        let what = format!("manifest {}", found.digest);
        check_types(&what, &found.manifest)?;
        check_foreign(source, &found.manifest).await?;
        let value = config(source, &found.manifest).await?;
        let config = Config::deserialize(&value).map_err(|source| Error::Document {
            what: format!("config {}", found.manifest.config().digest()),
            source,
        })?;
        check_platform(&what, &config, platform)?;
        let layers = found.manifest.layers();
        if layers.len() != config.rootfs.diff_ids.len() {
            let reason = Refusal::LayerCount {
                layers: layers.len(),
                diff_ids: config.rootfs.diff_ids.len(),
            };
            return Err(refused(&what, reason));
        }
        let layers = layers.iter().cloned().zip(config.rootfs.diff_ids).collect();
        Ok(Origin {
            found,
            config: value,
            layers,
        })
    }
}

/// Reads the config as it stands, so that members we do not know survive. It and its `rootfs` are objects: read into
/// structures, arrays would do as well.
pub(crate) async fn config(source: &ImageSource, manifest: &ImageManifest) -> Result<Value, Error> {
    let descriptor = manifest.config();
    let what = format!("config {}", descriptor.digest());
    let bytes = source.small_blob(descriptor, CONFIG_LEN_MAX).await?;
    let members: serde_json::Map<String, Value> = parse(&what, &bytes)?;
    if members.get("rootfs").is_some_and(|rootfs| !rootfs.is_object()) {
        let source = serde::de::Error::custom("rootfs is no object");
        return Err(Error::Document { what, source });
    }
    Ok(Value::Object(members))
}

/// A manifest that names one platform only is still the wrong one if another was asked for.
fn check_platform(what: &str, config: &Config, platform: Option<&Platform>) -> Result<(), Error> {
    let (Some(wanted), Some(os), Some(architecture)) = (platform, &config.os, &config.architecture) else {
        return Ok(());
    };
    if wanted.accepts(os, architecture, config.variant.as_deref()) {
        return Ok(());
    }
    let available = format!("{os}/{architecture}");
    Err(refused(
        what,
        Refusal::NoPlatform {
            wanted: wanted.to_string(),
            available,
        },
    ))
}

fn check_types(what: &str, manifest: &ImageManifest) -> Result<(), Error> {
    if crate::manifest::is_rafs(manifest) {
        return Err(refused(what, Refusal::AlreadyRafs));
    }
    let config_type = manifest.config().media_type();
    if *config_type != MediaType::ImageConfig && config_type.as_ref() != DOCKER_CONFIG {
        return Err(refused(what, Refusal::NotAnImage(config_type.to_string())));
    }
    for layer in manifest.layers() {
        check_layer(layer).map_err(|reason| refused(&format!("layer {}", layer.digest()), reason))?;
    }
    Ok(())
}

/// Layers with restrictions are often left out when an image is pushed.
async fn check_foreign(source: &ImageSource, manifest: &ImageManifest) -> Result<(), Error> {
    for layer in manifest.layers() {
        let media_type = layer.media_type().as_ref();
        if !media_type.contains("nondistributable") && !media_type.contains("foreign") {
            continue;
        }
        match source.blob_len(layer.digest()).await {
            Ok(_) => {}
            Err(proto::image::Error::NotFound { .. }) => {
                return Err(refused(&format!("layer {}", layer.digest()), Refusal::Foreign));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn check_layer(layer: &Descriptor) -> Result<(), Refusal> {
    match layer.media_type() {
        MediaType::ImageLayer
        | MediaType::ImageLayerGzip
        | MediaType::ImageLayerZstd
        | MediaType::ImageLayerNonDistributable
        | MediaType::ImageLayerNonDistributableGzip
        | MediaType::ImageLayerNonDistributableZstd => Ok(()),
        MediaType::Other(name) if DOCKER_LAYERS.contains(&name.as_str()) => Ok(()),
        other if other.as_ref().contains("encrypted") => Err(Refusal::Encrypted),
        other => Err(Refusal::UnknownLayer(other.to_string())),
    }
}

fn refused(what: &str, reason: Refusal) -> Error {
    Error::Refused {
        what: what.to_owned(),
        reason,
    }
}

fn parse<'a, T: Deserialize<'a>>(what: &str, bytes: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|source| Error::Document {
        what: what.to_owned(),
        source,
    })
}
