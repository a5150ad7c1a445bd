//! Layers: tar archives on their way into an image, and the layer that carries a bootstrap.

use std::collections::BTreeSet;
use std::io::{self, Write};

use converter::CleanPath;
use converter::error::LayerError;
use converter::layer::{Action, Budget, Change, read};
use converter::overlay::Overlay;
use converter::tarball::Reader;
use rafs::blob::{BlobBuilder, BlobInfo, BlobOptions};
use rafs::build::{self, Options};
use rafs::chunk::encode;
use rafs::image::check;
use rafs::tree::ChunkId;
use rafs::{BlobIndex, Compressor, Digester, Image, Tree};
use sha2::Sha256;

/// Chunk size of the images made here: small, so that small files have several.
const CHUNK_SIZE: u32 = 4096;
/// Content taken from one archive: a hole costs nothing in the archive, and may be of any size.
const CONTENT_LEN_MAX: usize = 1 << 20;
/// Bytes of a bootstrap that are taken.
const BOOTSTRAP_LEN_MAX: usize = 1 << 20;

/// Reads a tar archive as a layer, lays it over itself, and writes and reads the image.
///
/// It ends in an error or in an image without faults, none of whose names climbs.
pub fn layer(input: &[u8]) {
    let mut contents = Vec::new();
    let mut len = 0;
    let mut reader = Reader::new(input);
    let changes = read(&mut reader, CHUNK_SIZE, &Budget::default(), |cut| {
        len += cut.content.len();
        contents.push(cut.content);
        match len > CONTENT_LEN_MAX {
            true => Err(LayerError::Interrupted),
            false => Ok(()),
        }
    });
    assert!(reader.offset() <= input.len() as u64);
    let Ok(changes) = changes else { return };
    changes.iter().for_each(|change| assert_clean(change, input));
    let (blob, ids) = blob(contents);
    let mut overlay = Overlay::default();
    // Over itself, so that whiteouts and links meet what they are about.
    for _ in 0..2 {
        if overlay.apply(&changes, &ids).is_err() {
            return;
        }
    }
    image(&overlay.finish(), &blob);
}

fn assert_clean(change: &Change, input: &[u8]) {
    let link = match &change.action {
        Action::Link { target } => Some(target),
        _ => None,
    };
    let names = link.into_iter().flat_map(CleanPath::components);
    for name in change.path.components().chain(names) {
        assert!((1..=255).contains(&name.len()) && !matches!(name, b"." | b".."));
        assert!(!name.contains(&b'/') && !name.contains(&0));
    }
    assert!(change.offset < input.len() as u64);
}

fn blob(contents: Vec<Vec<u8>>) -> (Vec<BlobInfo>, Vec<ChunkId>) {
    let mut builder = BlobBuilder::new(BlobOptions {
        chunk_size: CHUNK_SIZE,
        compressor: Compressor::None,
        digester: Digester::Blake3,
    });
    let chunks = contents
        .into_iter()
        .map(|content| encode(content, Compressor::None, 0, Digester::Blake3));
    let ids = chunks.map(|chunk| ChunkId {
        blob: BlobIndex(0),
        index: builder.push(&chunk).expect("a few chunks fit"),
    });
    let ids = ids.collect();
    let finished = builder.finish(Sha256::default());
    (finished.map(|blob| blob.info).into_iter().collect(), ids)
}

fn image(tree: &Tree, blobs: &[BlobInfo]) {
    let options = Options {
        chunk_size: CHUNK_SIZE,
        compressor: Compressor::None,
        digester: Digester::Blake3,
        prefetch: Vec::new(),
    };
    // Attributes may each be small enough, and too many for one inode.
    let Ok(bytes) = build::bootstrap(tree, blobs, &options) else {
        return;
    };
    let image = Image::open(bytes).expect("what was written can be read");
    assert_eq!(
        check(image.bytes()),
        Ok(Vec::new()),
        "what was written has no faults"
    );
    let Ok(steps) = converter::walk::walk(&image) else {
        return;
    };
    let paths: BTreeSet<_> = steps.iter().map(|step| &step.path).collect();
    assert_eq!(paths.len(), steps.len(), "a path is listed once");
}

/// Takes the bootstrap out of its layer.
///
/// The length that is told is the length that was written.
pub fn bootstrap_layer(input: &[u8]) {
    let mut room = Room(0);
    if let Ok(len) = proto::lazy::extract_bootstrap(input, "the layer", &mut room) {
        assert_eq!(len, room.0 as u64);
    }
}

/// Counts what is written, and refuses more than fits.
struct Room(usize);

impl Write for Room {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        match self.0 > BOOTSTRAP_LEN_MAX {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
