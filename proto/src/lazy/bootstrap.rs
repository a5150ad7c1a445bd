//! The bootstrap layer: taking the bootstrap out, and packing one.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Component, Path};

use bytes::{Buf, Bytes};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use futures::TryStreamExt;
use oci_spec::image::Digest;
use tokio::sync::mpsc;

use super::{BOOTSTRAP_PATH, LazyManifest};
use crate::image::{ByteStream, Error, ImageSource, blocking, digest};

/// The longest bootstrap accepted: tens of millions of files have less.
pub const BOOTSTRAP_LEN_MAX: u64 = 2 << 30;
/// What a bootstrap layer may unpack to: the bootstrap, and ready-made cache files of its blobs beside it.
const LAYER_LEN_MAX: u64 = 2 * BOOTSTRAP_LEN_MAX;
/// Pieces of the layer that wait to be unpacked: enough to keep network and decompressor busy.
const QUEUE_LEN: usize = 8;
/// Bytes copied at a time.
const COPY_LEN: usize = 256 << 10;

/// Streams the bootstrap layer, and writes the bootstrap in it to `out`, an empty file. Returns its length in bytes.
///
/// Memory stays small whatever the length. What is in `out` counts only after success, since the layer's digest is
/// known at its end.
///
/// # Errors
/// [`Error::NotFound`] when the layer has no bootstrap, [`Error::TooLarge`], [`Error::Invalid`] when it cannot be
/// unpacked, [`Error::Io`] when `out` cannot be written; those of [`ImageSource::blob`].
pub async fn fetch_bootstrap(
    source: &ImageSource,
    manifest: &LazyManifest,
    out: &File,
) -> Result<u64, Error> {
    let mut out = out.try_clone()?;
    unpack(source, manifest, move |pieces, what| {
        extract_bootstrap(pieces, what, &mut out)
    })
    .await
}

/// Streams the bootstrap layer, and reads the file `name` beside the bootstrap, such as [`HINTS_NAME`](super::HINTS_NAME),
/// of at most `len_max` bytes. `None` if there is no such file.
///
/// # Errors
/// [`Error::TooLarge`], [`Error::Invalid`] when the layer cannot be unpacked; those of [`ImageSource::blob`].
pub async fn fetch_beside(
    source: &ImageSource,
    manifest: &LazyManifest,
    name: &str,
    len_max: u64,
) -> Result<Option<Vec<u8>>, Error> {
    let path = format!("image/{name}");
    let extracted = unpack(source, manifest, move |pieces, what| {
        let mut content = Vec::new();
        let found = extract(pieces, &path, len_max, what, &mut content)?;
        Ok(found.map(|_| content))
    });
    extracted.await
}

/// Streams the bootstrap layer through `extract`, which runs on a thread that may block.
async fn unpack<T: Send + 'static>(
    source: &ImageSource,
    manifest: &LazyManifest,
    extract: impl FnOnce(Pieces, &str) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let layer = source.blob(&manifest.bootstrap).await?;
    let what = format!("bootstrap layer {}", manifest.bootstrap.digest());
    let (queue, pieces) = mpsc::channel(QUEUE_LEN);
    let unpacking = blocking(move || {
        let pieces = Pieces {
            queue: pieces,
            current: Bytes::new(),
            ended: false,
        };
        extract(pieces, &what)
    });
    // A failure of the stream cuts the unpacking short; it is the one to tell, so both are awaited.
    let (streamed, unpacked) = futures::join!(feed(layer, queue), unpacking);
    streamed?;
    unpacked
}

/// Sends all pieces and then `None`, which is how an end differs from a break. Reads to the end even when nobody
/// takes pieces any more, because the digest is checked there.
async fn feed(mut layer: ByteStream, queue: mpsc::Sender<Option<Bytes>>) -> Result<(), Error> {
    let mut wanted = true;
    while let Some(bytes) = layer.try_next().await? {
        wanted = wanted && queue.send(Some(bytes)).await.is_ok();
    }
    if wanted {
        // Nobody left to hear it is nothing to tell.
        queue.send(None).await.unwrap_or_default();
    }
    Ok(())
}

/// Reads pieces from a queue, on a thread that may block.
struct Pieces {
    queue: mpsc::Receiver<Option<Bytes>>,
    current: Bytes,
    ended: bool,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.queue.blocking_recv() {
                Some(Some(bytes)) => self.current = bytes,
                Some(None) => self.ended = true,
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the layer's stream broke",
                    ));
                }
            }
        }
        let len = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..len]);
        Ok(len)
    }
}

/// Finds the bootstrap in a layer's bytes, compressed or not, and copies it to `out`. Returns its length in bytes.
/// `what` names the layer in errors.
///
/// # Errors
/// Those of [`fetch_bootstrap`] that are not the source's.
pub fn extract_bootstrap(layer: impl Read, what: &str, out: &mut impl Write) -> Result<u64, Error> {
    let extracted = extract(layer, BOOTSTRAP_PATH, BOOTSTRAP_LEN_MAX, what, out)?;
    extracted.ok_or_else(|| Error::NotFound {
        what: BOOTSTRAP_PATH.to_owned(),
        place: what.to_owned(),
    })
}

/// Finds the file `path` in a layer's bytes and copies it. Returns its length in bytes, or `None` if it is not there.
fn extract(
    mut layer: impl Read,
    path: &str,
    len_max: u64,
    what: &str,
    out: &mut impl Write,
) -> Result<Option<u64>, Error> {
    let damaged = |error: io::Error| Error::invalid(what, &error);
    let mut magic = Vec::new();
    layer.by_ref().take(4).read_to_end(&mut magic).map_err(damaged)?;
    let is_gzip = magic.starts_with(b"\x1f\x8b");
    let is_zstd = magic == b"\x28\xb5\x2f\xfd";
    let layer = Read::chain(io::Cursor::new(magic), layer);
    let unpacked: Box<dyn Read + '_> = match (is_gzip, is_zstd) {
        (true, _) => Box::new(MultiGzDecoder::new(layer)),
        (_, true) => Box::new(zstd::Decoder::new(layer).map_err(damaged)?),
        _ => Box::new(layer),
    };
    let mut archive = tar::Archive::new(unpacked.take(LAYER_LEN_MAX));
    // Raw, because extensions would be read into memory whole, whatever their length. What they may say does not
    // matter here: the name that is looked for is short, and so is the file.
    for entry in archive.entries().map_err(damaged)?.raw(true) {
        let mut entry = entry.map_err(damaged)?;
        if !entry.header().entry_type().is_file() || !is_same(&entry.path().map_err(damaged)?, path) {
            continue;
        }
        let len = entry.size();
        if len > len_max {
            return Err(Error::TooLarge {
                what: format!("{path} in {what}"),
                len_max,
            });
        }
        return match copy(&mut entry, out, what)? {
            copied if copied == len => Ok(Some(len)),
            copied => Err(Error::LengthMismatch {
                what: format!("{path} in {what}"),
                expected: len,
                actual: copied,
            }),
        };
    }
    Ok(None)
}

fn is_same(path: &Path, wanted: &str) -> bool {
    path.components()
        .filter(|part| *part != Component::CurDir)
        .eq(Path::new(wanted).components())
}

/// Copies, and keeps apart which side failed.
fn copy(from: &mut impl Read, to: &mut impl Write, what: &str) -> Result<u64, Error> {
    let mut buffer = vec![0; COPY_LEN];
    let mut copied = 0;
    loop {
        let len = from
            .read(&mut buffer)
            .map_err(|error| Error::invalid(what, &error))?;
        if len == 0 {
            return Ok(copied);
        }
        to.write_all(&buffer[..len])?;
        copied += len as u64;
    }
}

/// Packs `bootstrap` as a layer, with further files beside it: the gzip bytes, and the digest of the tar in it.
///
/// The same input makes the same bytes.
///
/// # Errors
/// [`Error::Io`] when a further file's name cannot stand in a tar.
pub fn bootstrap_layer(bootstrap: &[u8], further: &[(&str, &[u8])]) -> Result<(Vec<u8>, Digest), Error> {
    let mut tar = tar::Builder::new(Vec::new());
    append(&mut tar, "image/", tar::EntryType::Directory, &[])?;
    append(&mut tar, BOOTSTRAP_PATH, tar::EntryType::Regular, bootstrap)?;
    for (name, content) in further {
        append(
            &mut tar,
            &format!("image/{name}"),
            tar::EntryType::Regular,
            content,
        )?;
    }
    let tar = tar.into_inner()?;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&tar)?;
    Ok((gzip.finish()?, digest::sha256_of(&tar)))
}

fn append(
    tar: &mut tar::Builder<Vec<u8>>,
    path: &str,
    kind: tar::EntryType,
    content: &[u8],
) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(if kind.is_dir() { 0o755 } else { 0o444 });
    header.set_size(content.len() as u64);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    tar.append_data(&mut header, path, content)
}
