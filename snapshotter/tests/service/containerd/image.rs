//! Small images, made and pushed.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use oci_spec::image::MediaType;
use proto::image::{ImageTarget, Options};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A layer with what the manifest and the config say of it.
struct Layer {
    blob: Vec<u8>,
    diff_id: String,
    media_type: &'static str,
    annotations: Value,
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A gzip layer of these files: name, mode, content.
fn packed(files: &[(&str, u32, &[u8])], annotations: Value) -> Layer {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, mode, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(*mode);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    let tar = builder.into_inner().unwrap();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&tar).unwrap();
    Layer {
        blob: encoder.finish().unwrap(),
        diff_id: digest(&tar),
        media_type: "application/vnd.oci.image.layer.v1.tar+gzip",
        annotations,
    }
}

/// Pushes a busybox with a greeting in a layer of its own. Returns the digest of the manifest.
pub(crate) async fn push_plain(reference: &str) -> String {
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    let layers = [
        packed(&[("bin/busybox", 0o755, &busybox)], json!({})),
        packed(&[("greeting", 0o644, b"hello\n")], json!({})),
    ];
    push(reference, &layers).await
}

/// Pushes an image that says of itself it is a RAFS image; nobody looks at its data here.
pub(crate) async fn push_lazy(reference: &str) -> String {
    let blob = b"data".to_vec();
    let data = Layer {
        diff_id: digest(&blob),
        blob,
        media_type: "application/vnd.oci.image.layer.nydus.blob.v1",
        annotations: json!({"containerd.io/snapshot/nydus-blob": "true"}),
    };
    let mark = json!({"containerd.io/snapshot/nydus-bootstrap": "true"});
    push(
        reference,
        &[data, packed(&[("image/image.boot", 0o444, b"bootstrap")], mark)],
    )
    .await
}

async fn push(reference: &str, layers: &[Layer]) -> String {
    let location = reference.parse().unwrap();
    let target = ImageTarget::create(&location, &Options::default()).await.unwrap();
    let diff_ids: Vec<_> = layers.iter().map(|layer| &layer.diff_id).collect();
    let config = json!({
        "os": "linux",
        "architecture": proto::image::Platform::host().architecture,
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string();
    target.put_blob(Bytes::from(config.clone())).await.unwrap();
    let mut entries = Vec::new();
    for layer in layers {
        target.put_blob(Bytes::from(layer.blob.clone())).await.unwrap();
        entries.push(json!({
            "mediaType": layer.media_type,
            "digest": digest(&layer.blob),
            "size": layer.blob.len(),
            "annotations": layer.annotations,
        }));
    }
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest(config.as_bytes()),
            "size": config.len(),
        },
        "layers": entries,
    })
    .to_string();
    let digest = target
        .put_manifest(Bytes::from(manifest), &MediaType::ImageManifest, true)
        .await
        .unwrap();
    target.finish().await.unwrap();
    digest.to_string()
}
