//! An OCI layout folder as it is written: blobs, config, manifest, index.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::layer::LayerTar;

/// How a layer is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As it is.
    None,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
}

/// A layer in the layout.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Digest of the stored bytes, 64 hex digits.
    pub digest: String,
    /// Number of the stored bytes.
    pub size: u64,
    /// Digest of the tar, 64 hex digits.
    pub diff_id: String,
    compression: Compression,
}

/// A layout folder being written. An image is visible once [`Layout::image`] returned.
pub struct Layout {
    dir: PathBuf,
    manifests: Vec<Value>,
}

/// The writer under a layer's tar: hashes the tar, compresses it, hashes what is stored.
pub type LayerSink = Hashing<Encoder<Hashing<BufWriter<File>>>>;

impl Layout {
    /// Creates the folder.
    pub fn create(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir.join("blobs/sha256"))
            .with_context(|| format!("create {}", dir.display()))?;
        std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
            .context("write oci-layout")?;
        Ok(Layout {
            dir: dir.to_owned(),
            manifests: Vec::new(),
        })
    }

    /// Writes a layer whose entries `fill` appends.
    pub fn layer(
        &self,
        compression: Compression,
        fill: impl FnOnce(&mut LayerTar<LayerSink>) -> Result<()>,
    ) -> Result<Layer> {
        let mut tar = LayerTar::new(self.sink(compression)?);
        fill(&mut tar)?;
        self.keep(compression, tar.finish()?)
    }

    /// Writes a layer from a ready tar.
    pub fn layer_from_tar(&self, compression: Compression, tar: &mut dyn Read) -> Result<Layer> {
        let mut sink = self.sink(compression)?;
        std::io::copy(tar, &mut sink).context("copy the tar")?;
        self.keep(compression, sink)
    }

    /// Writes config and manifest of an image under a tag. `command` is what its containers run.
    pub fn image(&mut self, tag: &str, layers: &[Layer], command: &[&str]) -> Result<()> {
        let diff_ids: Vec<_> = layers
            .iter()
            .map(|layer| format!("sha256:{}", layer.diff_id))
            .collect();
        let config = self.document(&json!({
            "architecture": architecture(), "os": "linux", "created": "2024-01-01T00:00:00Z",
            "config": { "Cmd": command, "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": layers.iter().map(|_| json!({ "created_by": "test image" })).collect::<Vec<_>>(),
        }))?;
        let layers: Vec<_> = layers.iter().map(Layer::descriptor).collect();
        let manifest = self.document(&json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.0, "size": config.1 },
            "layers": layers,
        }))?;
        self.manifests.push(json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest.0, "size": manifest.1,
            "annotations": { "org.opencontainers.image.ref.name": tag },
            "platform": { "architecture": architecture(), "os": "linux" },
        }));
        let index = json!({ "schemaVersion": 2, "manifests": self.manifests });
        std::fs::write(self.dir.join("index.json"), index.to_string()).context("write index.json")
    }

    fn document(&self, document: &Value) -> Result<(String, usize)> {
        let text = document.to_string();
        let digest = hex::encode(Sha256::digest(text.as_bytes()));
        std::fs::write(self.dir.join("blobs/sha256").join(&digest), &text).context("write a document")?;
        Ok((format!("sha256:{digest}"), text.len()))
    }

    fn sink(&self, compression: Compression) -> Result<LayerSink> {
        let file = File::create(self.dir.join("blobs/incoming")).context("create a blob")?;
        Ok(Hashing::new(Encoder::new(
            compression,
            Hashing::new(BufWriter::new(file)),
        )?))
    }

    fn keep(&self, compression: Compression, sink: LayerSink) -> Result<Layer> {
        let (diff_id, _, encoder) = sink.finish();
        let (digest, size, mut file) = encoder.finish()?.finish();
        file.flush().context("write a blob")?;
        let blobs = self.dir.join("blobs");
        std::fs::rename(blobs.join("incoming"), blobs.join("sha256").join(&digest)).context("name a blob")?;
        Ok(Layer {
            digest,
            size,
            diff_id,
            compression,
        })
    }
}

impl Layer {
    fn descriptor(&self) -> Value {
        let suffix = match self.compression {
            Compression::None => "",
            Compression::Gzip => "+gzip",
            Compression::Zstd => "+zstd",
        };
        json!({
            "mediaType": format!("application/vnd.oci.image.layer.v1.tar{suffix}"),
            "digest": format!("sha256:{}", self.digest), "size": self.size,
        })
    }
}

/// This machine's architecture by its OCI name.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A writer that hashes and counts what passes.
pub struct Hashing<W> {
    inner: W,
    hash: Sha256,
    len: u64,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Hashing {
            inner,
            hash: Sha256::new(),
            len: 0,
        }
    }

    /// Digest (64 hex digits) and number of the bytes, and the writer below.
    fn finish(self) -> (String, u64, W) {
        (hex::encode(self.hash.finalize()), self.len, self.inner)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let len = self.inner.write(bytes)?;
        self.hash.update(&bytes[..len]);
        self.len += len as u64;
        Ok(len)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// A compressor, or none.
pub enum Encoder<W: Write> {
    /// Bytes pass unchanged.
    Plain(W),
    /// gzip.
    Gzip(flate2::write::GzEncoder<W>),
    /// zstd.
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Encoder<W> {
    fn new(compression: Compression, out: W) -> Result<Self> {
        Ok(match compression {
            Compression::None => Encoder::Plain(out),
            Compression::Gzip => {
                Encoder::Gzip(flate2::write::GzEncoder::new(out, flate2::Compression::default()))
            }
            Compression::Zstd => Encoder::Zstd(zstd::Encoder::new(out, 3).context("start zstd")?),
        })
    }

    fn finish(self) -> Result<W> {
        match self {
            Encoder::Plain(out) => Ok(out),
            Encoder::Gzip(encoder) => encoder.finish().context("end gzip"),
            Encoder::Zstd(encoder) => encoder.finish().context("end zstd"),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Encoder::Plain(out) => out.write(bytes),
            Encoder::Gzip(encoder) => encoder.write(bytes),
            Encoder::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Encoder::Plain(out) => out.flush(),
            Encoder::Gzip(encoder) => encoder.flush(),
            Encoder::Zstd(encoder) => encoder.flush(),
        }
    }
}
