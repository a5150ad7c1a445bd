//! The labels of a pull: what keeps content and snapshots alive, and what tells the snapshotter about a layer.

use std::collections::HashMap;

use oci_spec::image::ImageManifest;
use proto::image::Reference;

use super::Layer;
use crate::label;

/// Bound of containerd on a label's key and value together.
const LABEL_LEN_MAX: usize = 4096;

/// Labels for the config: it holds the topmost snapshot, which holds those below.
pub(super) fn config_labels(snapshotter: &str, layers: &[Layer]) -> HashMap<String, String> {
    let top = layers.last().map(|top| top.chain_id.clone());
    top.map(|top| (format!("containerd.io/gc.ref.snapshot.{snapshotter}"), top))
        .into_iter()
        .collect()
}

/// Labels for the manifest: it holds config and layers, where they are in the content store.
pub(super) fn manifest_labels(manifest: &ImageManifest) -> HashMap<String, String> {
    let config = (
        "containerd.io/gc.ref.content.config".to_owned(),
        manifest.config().digest().to_string(),
    );
    let layers = manifest.layers().iter().enumerate().map(|(index, layer)| {
        (
            format!("containerd.io/gc.ref.content.l.{index}"),
            layer.digest().to_string(),
        )
    });
    std::iter::once(config).chain(layers).collect()
}

/// Labels for the index: it holds the manifest.
pub(super) fn index_labels(manifest: &str) -> HashMap<String, String> {
    [("containerd.io/gc.ref.content.m.0".to_owned(), manifest.to_owned())].into()
}

/// Tells where content came from, for clients that push it elsewhere.
pub(super) fn source_label(reference: &Reference) -> (String, String) {
    (
        format!("containerd.io/distribution.source.{}", reference.host),
        reference.repository.clone(),
    )
}

/// Labels for preparing a layer: those Kubernetes sends, and the layer's own annotations.
pub(super) fn snapshot_labels(
    image: &str,
    manifest_digest: &str,
    layers: &[Layer],
    index: usize,
) -> HashMap<String, String> {
    let Some((layer, _)) = layers[index..].split_first() else {
        return HashMap::new();
    };
    let annotations = layer.descriptor.annotations().iter().flatten();
    let own = annotations
        .filter(|(key, _)| key.starts_with(label::SNAPSHOT_PREFIX))
        .map(|(key, value)| (key.clone(), value.clone()));
    let told = [
        (label::SNAPSHOT_REF, layer.chain_id.clone()),
        (label::CRI_IMAGE_REF, image.to_owned()),
        (label::CRI_MANIFEST_DIGEST, manifest_digest.to_owned()),
        (label::CRI_LAYER_DIGEST, layer.descriptor.digest().to_string()),
        (label::CRI_IMAGE_LAYERS, upward(&layers[index..])),
    ];
    own.chain(told.map(|(key, value)| (key.to_owned(), value)))
        .collect()
}

/// Digests from the first layer to the top, as many as fit in a label.
fn upward(layers: &[Layer]) -> String {
    let mut list = String::new();
    for layer in layers {
        let digest: &str = layer.descriptor.digest().as_ref();
        if label::CRI_IMAGE_LAYERS.len() + list.len() + 1 + digest.len() > LABEL_LEN_MAX {
            break;
        }
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(digest);
    }
    list
}

#[cfg(test)]
mod tests {
    use proto::lazy::BLOB_ANNOTATION;

    use super::super::layer::tests::{descriptor, manifest};
    use super::*;

    fn layers(count: u8) -> Vec<Layer> {
        let annotations = r#""containerd.io/snapshot/nydus-blob":"true","other":"x""#;
        let descriptors: Vec<_> = (0..count).map(|digit| descriptor(digit, annotations)).collect();
        let manifest = manifest(&descriptors.join(","));
        let layer = |(index, descriptor): (usize, &oci_spec::image::Descriptor)| Layer {
            descriptor: descriptor.clone(),
            diff_id: format!("diff {index}"),
            chain_id: format!("chain {index}"),
        };
        manifest.layers().iter().enumerate().map(layer).collect()
    }

    #[test]
    fn a_layer_is_told_of_as_kubernetes_does() {
        let layers = layers(3);
        let labels = snapshot_labels("host/app:1", "sha256:m", &layers, 1);
        let digest = |digit: u8| format!("sha256:{digit:064}");
        let wanted = [
            (label::SNAPSHOT_REF, "chain 1".to_owned()),
            (label::CRI_IMAGE_REF, "host/app:1".to_owned()),
            (label::CRI_MANIFEST_DIGEST, "sha256:m".to_owned()),
            (label::CRI_LAYER_DIGEST, digest(1)),
            (label::CRI_IMAGE_LAYERS, format!("{},{}", digest(1), digest(2))),
            (BLOB_ANNOTATION, "true".to_owned()),
        ];
        assert_eq!(labels, wanted.map(|(key, value)| (key.to_owned(), value)).into());
    }

    #[test]
    fn long_lists_are_cut_between_digests() {
        let labels = snapshot_labels("host/app:1", "sha256:m", &layers(120), 0);
        let list = &labels[label::CRI_IMAGE_LAYERS];
        assert!(label::CRI_IMAGE_LAYERS.len() + list.len() <= LABEL_LEN_MAX);
        assert!(list.split(',').all(|digest| digest.len() == 71), "{list}");
        assert!(list.split(',').count() > 50);
    }

    #[test]
    fn the_config_holds_the_topmost_snapshot() {
        let labels = config_labels("slipway", &layers(2));
        let wanted = (
            "containerd.io/gc.ref.snapshot.slipway".to_owned(),
            "chain 1".to_owned(),
        );
        assert_eq!(labels, HashMap::from([wanted]));
        assert!(config_labels("slipway", &[]).is_empty());
    }

    #[test]
    fn the_manifest_holds_config_and_layers() {
        let labels = manifest_labels(&manifest(&descriptor(1, "")));
        assert_eq!(labels.len(), 2);
        assert_eq!(
            labels["containerd.io/gc.ref.content.l.0"],
            format!("sha256:{:064}", 1)
        );
    }
}
