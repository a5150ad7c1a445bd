//! OCI layouts in temporary folders, and `slipway` run on them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// How a layer is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    pub(crate) fn pack(self, tar: &[u8]) -> Vec<u8> {
        match self {
            Packing::Plain => tar.to_vec(),
            Packing::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(tar).unwrap();
                encoder.finish().unwrap()
            }
            Packing::Zstd => zstd::encode_all(tar, 1).unwrap(),
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Packing::Plain => "application/vnd.oci.image.layer.v1.tar",
            Packing::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Packing::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

/// A layer as a layout holds it.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) diff_id: String,
}

impl Stored {
    pub(crate) fn new(tar: &[u8], packing: Packing) -> Self {
        Stored {
            media_type: packing.media_type().to_owned(),
            bytes: packing.pack(tar),
            diff_id: format!("sha256:{}", sha256(tar)),
        }
    }
}

/// A temporary folder with layouts in it.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Place(TempDir::new().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `oci:` name of a layout.
    pub(crate) fn oci(&self, name: &str) -> String {
        format!("oci:{}", self.path(name).display())
    }

    /// Writes a layout `src` with one image of gzip layers.
    pub(crate) fn image(&self, layers: &[Vec<u8>]) {
        let layers: Vec<_> = layers.iter().map(|tar| Stored::new(tar, Packing::Gzip)).collect();
        self.stored_image(&layers);
    }

    pub(crate) fn stored_image(&self, layers: &[Stored]) {
        let layout = self.path("src");
        let manifest = add_image(&layout, layers, OCI_MANIFEST, OCI_CONFIG, "amd64");
        write_index(&layout, &[manifest]);
    }

    pub(crate) fn slipway(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_slipway"));
        // Nothing of the user's may leak in: no credentials, no log filter.
        command
            .env("HOME", self.0.path())
            .env_remove("SLIPWAY_LOG")
            .env_remove("DOCKER_CONFIG");
        command.current_dir(self.0.path());
        command
    }

    /// Converts `src` to `dst`.
    pub(crate) fn convert(&self, options: &[&str]) -> assert_cmd::assert::Assert {
        let (source, target) = (self.oci("src"), self.oci("dst"));
        self.slipway()
            .args(["convert", &source, &target, "--platform", "linux/amd64"])
            .args(options)
            .assert()
    }

    /// Unpacks `dst` to a tar stream.
    pub(crate) fn unpacked(&self) -> Vec<u8> {
        let output = self
            .slipway()
            .args(["unpack", &self.oci("dst"), "-", "--platform", "linux/amd64"])
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    }

    /// The manifest `index.json` of a layout points to.
    pub(crate) fn manifest(&self, name: &str) -> Value {
        let index: Value =
            serde_json::from_slice(&fs::read(self.path(name).join("index.json")).unwrap()).unwrap();
        self.blob(name, index["manifests"][0]["digest"].as_str().unwrap())
    }

    pub(crate) fn blob(&self, name: &str, digest: &str) -> Value {
        serde_json::from_slice(&fs::read(self.blob_path(name, digest)).unwrap()).unwrap()
    }

    pub(crate) fn blob_path(&self, name: &str, digest: &str) -> PathBuf {
        self.path(name).join("blobs").join(digest.replace(':', "/"))
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Adds a blob and describes it.
pub(crate) fn add_blob(layout: &Path, media_type: &str, bytes: &[u8]) -> Value {
    let digest = sha256(bytes);
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(&digest), bytes).unwrap();
    json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len()})
}

/// Adds config, layers and manifest, and describes the manifest.
pub(crate) fn add_image(
    layout: &Path,
    layers: &[Stored],
    manifest_type: &str,
    config_type: &str,
    architecture: &str,
) -> Value {
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
    let history: Vec<_> = layers.iter().map(|_| json!({"created_by": "a step"})).collect();
    let config = json!({
        "architecture": architecture, "os": "linux", "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": history,
    });
    let config = add_blob(layout, config_type, &serde_json::to_vec(&config).unwrap());
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| add_blob(layout, &layer.media_type, &layer.bytes))
        .collect();
    let manifest =
        json!({"schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": layers});
    add_blob(layout, manifest_type, &serde_json::to_vec(&manifest).unwrap())
}

/// Writes `oci-layout` and `index.json`.
pub(crate) fn write_index(layout: &Path, manifests: &[Value]) {
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests});
    fs::write(layout.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
}

/// Bytes that no compressor shrinks, the same every time.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(|_| next()).collect()
}
