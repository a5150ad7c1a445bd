//! The layers of an image: descriptors of the manifest joined with diff ids of the config.

use oci_spec::image::{Descriptor, ImageManifest};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::Error;

/// A layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// What the manifest says.
    pub descriptor: Descriptor,
    /// Digest of the unpacked layer.
    pub diff_id: String,
    /// Digest that stands for this layer on all below it.
    pub chain_id: String,
}

/// An image config, as far as it matters here.
#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// Joins manifest and config.
pub(super) fn layers(manifest: &ImageManifest, config: &[u8]) -> Result<Vec<Layer>, Error> {
    let wrong = |reason| Error::Config {
        digest: manifest.config().digest().to_string(),
        reason,
    };
    let config: Config = serde_json::from_slice(config).map_err(|error| wrong(error.to_string()))?;
    let diff_ids = config.rootfs.diff_ids;
    if diff_ids.len() != manifest.layers().len() {
        let (diffs, layers) = (diff_ids.len(), manifest.layers().len());
        return Err(wrong(format!(
            "it has {diffs} diff ids, but the manifest has {layers} layers"
        )));
    }
    let mut layers: Vec<Layer> = Vec::with_capacity(diff_ids.len());
    for (descriptor, diff_id) in manifest.layers().iter().zip(diff_ids) {
        let chain_id = match layers.last() {
            None => diff_id.clone(),
            Some(below) => chain_id(&below.chain_id, &diff_id),
        };
        layers.push(Layer {
            descriptor: descriptor.clone(),
            diff_id,
            chain_id,
        });
    }
    Ok(layers)
}

/// Chain id of a layer on a chain, as the OCI image specification defines it.
fn chain_id(below: &str, diff_id: &str) -> String {
    format!(
        "sha256:{}",
        hex::encode(Sha256::digest(format!("{below} {diff_id}")))
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::pull) fn manifest(layers: &str) -> ImageManifest {
        let config = format!("sha256:{:064}", 9);
        let text = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","size":1,
            "digest":"{config}"}},"layers":[{layers}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    pub(in crate::pull) fn descriptor(digit: u8, annotations: &str) -> String {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","size":{digit},
            "digest":"sha256:{digit:064}","annotations":{{{annotations}}}}}"#
        )
    }

    #[test]
    fn chain_ids_hang_on_all_below() {
        let manifest = manifest(&[descriptor(1, ""), descriptor(2, "")].join(","));
        let (first, second) = (format!("sha256:{:064}", 3), format!("sha256:{:064}", 4));
        let config = format!(r#"{{"rootfs":{{"type":"layers","diff_ids":["{first}","{second}"]}}}}"#);
        let layers = layers(&manifest, config.as_bytes()).unwrap();
        assert_eq!(layers[0].chain_id, first);
        // printf 'sha256:%064d sha256:%064d' 3 4 | sha256sum
        assert_eq!(layers[1].chain_id, CHAIN);
        assert_eq!(layers[1].diff_id, second);
    }

    const CHAIN: &str = "sha256:b959e7d446d65ae148bdde47494d44929b180d86ac52340692986451d4019bdb";

    #[test]
    fn config_and_manifest_must_fit() {
        let manifest = manifest(&descriptor(1, ""));
        for config in [r#"{"rootfs":{"diff_ids":[]}}"#, "{}", "no json"] {
            assert!(
                matches!(layers(&manifest, config.as_bytes()), Err(Error::Config { .. })),
                "{config}"
            );
        }
    }
}
