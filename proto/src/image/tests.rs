//! Layouts and archives, as this crate and as skopeo write them.

mod docker_archives;
mod layouts;

use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use oci_spec::image::{Descriptor, Digest, ImageManifest, MediaType};

use super::*;

/// A layer that is a valid tar, since skopeo looks inside.
fn tar_layer(name: &str, len: usize) -> Bytes {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(len as u64);
    header.set_mode(0o644);
    let content: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
    tar.append_data(&mut header, name, content.as_slice()).unwrap();
    tar.into_inner().unwrap().into()
}

/// Writes an image of these layers and gives the digest of its manifest.
async fn write_image(location: &str, layers: &[Bytes]) -> Digest {
    let target = ImageTarget::create(&location.parse().unwrap(), &Options::default())
        .await
        .unwrap();
    let mut descriptors = Vec::new();
    for layer in layers {
        let digest = digest::sha256_of(layer);
        let mut upload = target.start_blob().await.unwrap();
        for piece in layer.chunks(1000) {
            upload.write(layer.slice_ref(piece)).await.unwrap();
        }
        upload.finish(&digest).await.unwrap();
        assert!(target.has_blob(&digest).await.unwrap());
        descriptors.push(Descriptor::new(MediaType::ImageLayer, layer.len() as u64, digest));
    }
    let diff_ids: Vec<_> = descriptors
        .iter()
        .map(|layer| layer.digest().to_string())
        .collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = Bytes::from(serde_json::to_vec(&config).unwrap());
    let config_len = config.len() as u64;
    let config = Descriptor::new(
        MediaType::ImageConfig,
        config_len,
        target.put_blob(config).await.unwrap(),
    );
    let media_type = MediaType::ImageManifest.to_string();
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": descriptors});
    let manifest = Bytes::from(serde_json::to_vec(&manifest).unwrap());
    let digest = target
        .put_manifest(manifest, &MediaType::ImageManifest, true)
        .await
        .unwrap();
    target.finish().await.unwrap();
    digest
}

async fn open(location: &str) -> Result<ImageSource, Error> {
    ImageSource::open(&location.parse().unwrap(), &Options::default()).await
}

/// The layers of an image, read whole and checked.
async fn layers_of(source: &ImageSource) -> Vec<Bytes> {
    let manifest: ImageManifest =
        serde_json::from_slice(&source.root_manifest().await.unwrap().bytes).unwrap();
    let mut layers = Vec::new();
    for layer in manifest.layers() {
        assert_eq!(source.blob_len(layer.digest()).await.unwrap(), layer.size());
        layers.push(
            stream::gather(source.blob(layer).await.unwrap(), "layer", 1 << 30)
                .await
                .unwrap(),
        );
    }
    assert!(
        source
            .small_blob(manifest.config(), 1 << 20)
            .await
            .unwrap()
            .starts_with(b"{")
    );
    layers
}

/// Runs skopeo without its policy file; `None` where it is not installed.
fn skopeo(arguments: &[&str]) -> Option<String> {
    if !Path::new("/usr/bin/skopeo").exists() {
        return None;
    }
    let output = Command::new("skopeo")
        .arg("--insecure-policy")
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(String::from_utf8(output.stdout).unwrap())
}

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn logins_are_read_and_not_shown() {
    let login = |text: &str| {
        text.parse::<super::Login>()
            .map(|login| (login.user, login.password))
    };
    let pair = |user: &str, password: &str| Ok((user.to_owned(), password.to_owned()));
    assert_eq!(login("me:pass:word"), pair("me", "pass:word"));
    assert_eq!(login("me"), pair("me", ""));
    assert!(login("").is_err() && login(":secret").is_err_and(|error| !error.contains("secret")));
    let shown = format!("{:?}", "me:secret".parse::<super::Login>());
    assert_eq!(shown, "Ok(Login(me, ***))");
}
