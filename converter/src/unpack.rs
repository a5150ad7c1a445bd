//! Unpacking: every path of an image in order, contents fetched ahead, into a folder or an archive.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use rafs::tree::FileType;
use rafs::{ChunkRef, Image, Nid};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::error::Error;
use crate::fetch;
use crate::opened::RafsImage;
use crate::progress::{Event, Observer};
use crate::restore::Opening;
use crate::task;
use crate::walk::{Step, walk};

mod archive;
mod folder;

use archive::ArchiveSink;
pub(crate) use archive::device;
use folder::FolderSink;

/// Chunks between fetching and writing.
const CHUNK_COUNT_MAX: usize = 8;

/// Bytes of a chunk's entry in a file's list.
const CHUNK_INDEX_LEN: usize = size_of::<rafs::layout::ChunkIndex>();

/// Where to unpack to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A folder, empty or not there yet.
    Folder(PathBuf),
    /// A tar file.
    Archive(PathBuf),
    /// A tar stream on standard output.
    Stdout,
}

/// What was unpacked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unpacked {
    /// Paths, the root included.
    pub path_count: u64,
    /// Bytes of contents.
    pub content_len: u64,
    /// What could not be kept, with how many paths it concerns.
    pub lost: Lost,
}

/// Paths that lost something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// Owner or group: only root can give files away, and nobody to the id 4294967295, which means none to Linux.
    pub owner: u64,
    /// Extended attributes that the user or the file system may not store, or that it has no room for.
    pub xattrs: u64,
    /// Modification times that the file system cannot say.
    pub times: u64,
    /// Devices that only root can make; they are missing.
    pub devices: u64,
    /// Sockets, which archives cannot hold; they are missing.
    pub sockets: u64,
}

/// An inode on its way out.
struct Item<'a> {
    step: &'a Step,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Target of a symbolic link, empty for others.
    target: &'a [u8],
    /// An earlier path of the same inode.
    link_to: Option<&'a [u8]>,
}

/// Takes paths in order, parents first. A regular file that is no link is followed by its content and `end_file`.
trait Sink {
    /// Starts a path.
    fn put(&mut self, item: &Item<'_>) -> Result<(), Error>;
    /// Content of the regular file just put.
    fn write(&mut self, content: &[u8]) -> Result<(), Error>;
    /// Ends the regular file just put.
    fn end_file(&mut self) -> Result<(), Error>;
    /// Ends everything.
    fn finish(self: Box<Self>) -> Result<Lost, Error>;
}

/// Unpacks the whole image.
pub async fn unpack(
    image: Arc<RafsImage>,
    destination: &Destination,
    observer: Arc<dyn Observer>,
) -> Result<Unpacked, Error> {
    let destination = destination.clone();
    let open = move || -> Result<Box<dyn Sink>, Error> {
        Ok(match destination {
            Destination::Folder(path) => Box::new(FolderSink::create(&path)?),
            Destination::Archive(path) => Box::new(ArchiveSink::create(&path)?),
            Destination::Stdout => Box::new(ArchiveSink::stdout()),
        })
    };
    unpack_to(image, open, observer.as_ref()).await
}

/// Unpacks the whole image to a layer of another.
pub(crate) async fn unpack_layer(
    image: Arc<RafsImage>,
    layer: Opening,
    observer: Arc<dyn Observer>,
) -> Result<Unpacked, Error> {
    let open = move || -> Result<Box<dyn Sink>, Error> { Ok(Box::new(ArchiveSink::layer(layer)?)) };
    unpack_to(image, open, observer.as_ref()).await
}

/// `open` runs on the thread that writes.
async fn unpack_to(
    image: Arc<RafsImage>,
    open: impl FnOnce() -> Result<Box<dyn Sink>, Error> + Send + 'static,
    observer: &dyn Observer,
) -> Result<Unpacked, Error> {
    let corrupt = |source| Error::Bootstrap {
        place: "the image".to_owned(),
        source,
    };
    let steps = walk(&image.bootstrap).map_err(corrupt)?;
    // Files that share their lists of chunks could ask for more than any memory holds.
    let chunk_count_max = image.bootstrap.bytes().len() / CHUNK_INDEX_LEN;
    let chunks = chunks(&image.bootstrap, &steps, chunk_count_max).map_err(corrupt)?;
    let (sender, receiver) = mpsc::channel(CHUNK_COUNT_MAX);
    let for_writer = Arc::clone(&image);
    let writer = tokio::task::spawn_blocking(move || write(&for_writer, &steps, open()?, receiver));
    let fetched = feed(image, chunks, sender, observer).await;
    let written = task::joined(writer).await?;
    // A failed fetch is what the writer was stopped by.
    fetched?;
    written
}

/// The chunks of all files, in the order of the paths; each inode once. More than `count_max` are refused.
fn chunks(image: &Image<Bytes>, steps: &[Step], count_max: usize) -> Result<Vec<ChunkRef>, rafs::Error> {
    let mut seen = std::collections::HashSet::new();
    let mut chunks = Vec::new();
    for step in steps {
        if step.inode.file_type == FileType::Regular && seen.insert(step.inode.nid) {
            for extent in image.extents(&step.inode, 0..step.inode.size)? {
                chunks.push(extent?.chunk);
                if chunks.len() > count_max {
                    let what = "files share their lists of chunks";
                    return Err(rafs::Error::Corrupt { what, offset: 0 });
                }
            }
        }
    }
    Ok(chunks)
}

async fn feed(
    image: Arc<RafsImage>,
    wanted: Vec<ChunkRef>,
    sender: mpsc::Sender<Bytes>,
    observer: &dyn Observer,
) -> Result<(), Error> {
    let len = wanted.iter().map(|chunk| u64::from(chunk.uncompressed.len)).sum();
    observer.event(Event::Contents { len });
    let mut chunks = std::pin::pin!(fetch::fetch(Arc::clone(&image), wanted));
    while let Some(decoded) = chunks.next().await {
        let (chunk, content) = decoded?;
        let content = content.map_err(|source| Error::Chunk {
            blob: image.bootstrap.blobs()[usize::from(chunk.blob.0)].id.clone(),
            index: chunk.index,
            source,
        })?;
        let len = content.len() as u64;
        if sender.send(content).await.is_err() {
            // The writer has given up and says why.
            return Ok(());
        }
        observer.event(Event::ContentsRead { len });
    }
    observer.event(Event::ContentsDone);
    Ok(())
}

/// The blocking half: paths and contents into the sink.
fn write(
    image: &RafsImage,
    steps: &[Step],
    mut sink: Box<dyn Sink>,
    mut chunks: mpsc::Receiver<Bytes>,
) -> Result<Unpacked, Error> {
    let corrupt = |source| Error::Bootstrap {
        place: "the image".to_owned(),
        source,
    };
    let mut first_path: HashMap<Nid, &[u8]> = HashMap::new();
    let mut unpacked = Unpacked::default();
    for step in steps {
        let item = item(image, step, &mut first_path).map_err(corrupt)?;
        sink.put(&item)?;
        unpacked.path_count += 1;
        if step.inode.file_type != FileType::Regular || item.link_to.is_some() {
            continue;
        }
        for extent in image
            .bootstrap
            .extents(&step.inode, 0..step.inode.size)
            .map_err(corrupt)?
        {
            let extent = extent.map_err(corrupt)?;
            let content = chunks.blocking_recv().ok_or(Error::Interrupted)?;
            let (from, len) = (extent.skip as usize, extent.len as usize);
            let part = content
                .get(from..)
                .and_then(|rest| rest.get(..len))
                .ok_or(Error::Interrupted)?;
            sink.write(part)?;
            unpacked.content_len += u64::from(extent.len);
        }
        sink.end_file()?;
    }
    unpacked.lost = sink.finish()?;
    Ok(unpacked)
}

fn item<'a>(
    image: &'a RafsImage,
    step: &'a Step,
    first_path: &mut HashMap<Nid, &'a [u8]>,
) -> Result<Item<'a>, rafs::Error> {
    let inode = &step.inode;
    let link_to = match inode.file_type {
        FileType::Directory => None,
        _ if inode.nlink < 2 => None,
        _ => match first_path.get(&inode.nid) {
            Some(first) => Some(*first),
            None => {
                first_path.insert(inode.nid, &step.path);
                None
            }
        },
    };
    let xattrs = image.bootstrap.xattrs(inode)?;
    let xattrs = xattrs
        .map(|pair| pair.map(|(name, value)| (name, value.to_vec())))
        .collect::<Result<_, _>>()?;
    let target = match inode.file_type {
        FileType::Symlink => image.bootstrap.symlink(inode)?,
        _ => &[],
    };
    Ok(Item {
        step,
        xattrs,
        target,
        link_to,
    })
}

#[cfg(test)]
mod tests {
    use rafs::blob::{BlobBuilder, BlobOptions};
    use rafs::build::{Options, bootstrap};
    use rafs::chunk::encode;
    use rafs::tree::{Attr, ChunkId, Content, Node};
    use rafs::{BlobIndex, Compressor, Digester, Tree};
    use sha2::{Digest as _, Sha256};

    use super::*;

    /// One file of ten chunks with two names.
    fn image() -> Image<Bytes> {
        let (chunk_size, compressor, digester) = (4096, Compressor::None, Digester::Sha256);
        let mut builder = BlobBuilder::new(BlobOptions {
            chunk_size,
            compressor,
            digester,
        });
        let mut hash = Sha256::new();
        let chunks = (0..10).map(|number| {
            let chunk = encode(vec![number; 4096], compressor, 1, digester);
            let index = builder.push(&chunk).unwrap();
            hash.update(&chunk.data);
            ChunkId {
                blob: BlobIndex(0),
                index,
            }
        });
        let content = Content::Regular {
            chunks: chunks.collect(),
            size: 40_960,
        };
        let mut tree = Tree::new(Attr::default());
        let attr = Attr::default();
        let file = tree.add(Node { attr, content });
        let names = tree.names_mut(Tree::ROOT).unwrap();
        names.extend([(b"one".to_vec(), file), (b"other".to_vec(), file)]);
        let options = Options {
            chunk_size,
            compressor,
            digester,
            prefetch: Vec::new(),
        };
        let blob = builder.finish(hash).unwrap().info;
        Image::open(bootstrap(&tree, &[blob], &options).unwrap().into()).unwrap()
    }

    #[test]
    fn more_chunks_than_their_lists_have_room_for_are_refused() {
        let image = image();
        let steps = walk(&image).unwrap();
        assert_eq!(chunks(&image, &steps, 10).unwrap().len(), 10);
        let error = chunks(&image, &steps, 9).unwrap_err();
        assert!(error.to_string().contains("share their lists"), "{error}");
    }
}
