//! Taking the bootstrap out of its layer, for mounting without containerd.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use oci_spec::image::Descriptor;
use proto::image::ImageSource;

use crate::layout::BOOTSTRAP_IN_LAYER;

/// Longest bootstrap layer, packed: that of an image with tens of millions of files.
const LAYER_LEN_MAX: u64 = 1 << 30;

/// Longest bootstrap, unpacked: a bound on what a hostile layer can fill the disk with.
const BOOTSTRAP_LEN_MAX: u64 = 4 << 30;

/// First bytes of gzip.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Why there is no bootstrap.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The image's place refused.
    #[error(transparent)]
    Source(#[from] proto::image::Error),
    /// The layer does not hold one.
    #[error("bootstrap layer {layer} has no file {BOOTSTRAP_IN_LAYER}; hint: convert the image again")]
    Missing {
        /// Digest of the layer.
        layer: String,
    },
    /// The bootstrap is longer than any sensible one.
    #[error("the bootstrap of layer {layer} is longer than {BOOTSTRAP_LEN_MAX} bytes")]
    TooLong {
        /// Digest of the layer.
        layer: String,
    },
    /// Layer or target cannot be read or written.
    #[error("cannot unpack the bootstrap to {}: {source}", path.display())]
    Io {
        /// The target.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Fetches a bootstrap layer and writes its bootstrap to a file.
pub async fn fetch(source: &ImageSource, layer: &Descriptor, target: &Path) -> Result<(), Error> {
    let bytes = source.small_blob(layer, LAYER_LEN_MAX).await?;
    let (digest, path) = (layer.digest().to_string(), target.to_owned());
    let failed = |path: PathBuf| move |source| Error::Io { path, source };
    let unpacking = tokio::task::spawn_blocking(move || unpack(&bytes, &digest, &path));
    unpacking
        .await
        .map_err(io::Error::from)
        .map_err(failed(target.to_owned()))?
}

fn unpack(layer: &[u8], digest: &str, target: &Path) -> Result<(), Error> {
    let failed = |source| Error::Io {
        path: target.to_owned(),
        source,
    };
    let reader: Box<dyn Read + '_> = if layer.starts_with(&GZIP_MAGIC) {
        Box::new(MultiGzDecoder::new(layer))
    } else {
        Box::new(layer)
    };
    let mut archive = tar::Archive::new(BufReader::new(reader));
    for entry in archive.entries().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let is_bootstrap = entry
            .path()
            .is_ok_and(|path| path.components().eq(Path::new(BOOTSTRAP_IN_LAYER).components()));
        if is_bootstrap && entry.header().entry_type().is_file() {
            let mut file = File::create(target).map_err(failed)?;
            let len = io::copy(&mut entry.take(BOOTSTRAP_LEN_MAX + 1), &mut file).map_err(failed)?;
            return if len > BOOTSTRAP_LEN_MAX {
                Err(Error::TooLong {
                    layer: digest.to_owned(),
                })
            } else {
                Ok(())
            };
        }
    }
    Err(Error::Missing {
        layer: digest.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn layer(name: &str) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, text) in [("image/other", "x"), (name, "bootstrap")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o444);
            builder.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn packed_or_not_the_bootstrap_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("boot");
        for layer in [layer("image/image.boot"), packed(&layer("./image/image.boot"))] {
            unpack(&layer, "sha256:l", &target).unwrap();
            assert_eq!(std::fs::read_to_string(&target).unwrap(), "bootstrap");
        }
    }

    #[test]
    fn a_layer_without_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("boot");
        let error = unpack(&layer("image/image.boo"), "sha256:l", &target).unwrap_err();
        assert!(matches!(error, Error::Missing { layer } if layer == "sha256:l"));
        assert!(matches!(
            unpack(&[1; 700], "sha256:l", &target),
            Err(Error::Io { .. })
        ));
    }
}
