//! Why batch work fails. Variants are decisions; facts in fields.

use std::path::PathBuf;

use crate::tarball::TarError;

/// Why a command of this crate did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The image's place cannot be read or written.
    #[error(transparent)]
    Image(#[from] proto::image::Error),
    /// The source is not an image this converter takes.
    #[error("cannot convert {what}: {reason}")]
    Refused {
        /// Which manifest, config or layer.
        what: String,
        /// Why not.
        reason: Refusal,
    },
    /// An index has nothing for the wanted platform.
    #[error("choosing from index {index}")]
    Platform {
        /// Digest of the index.
        index: String,
        /// What was wanted and what is there.
        source: Box<proto::image::Error>,
    },
    /// A document of the image does not parse.
    #[error("{what} is not valid")]
    Document {
        /// Which document.
        what: String,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// One layer cannot be converted.
    #[error("layer {layer}")]
    Layer {
        /// Digest of the layer, as the source names it.
        layer: String,
        /// Why.
        #[source]
        source: LayerError,
    },
    /// The merged file system does not fit the format.
    #[error("writing the bootstrap")]
    Build(#[from] rafs::build::BuildError),
    /// A bootstrap cannot be read.
    #[error("{place}")]
    Bootstrap {
        /// File or image.
        place: String,
        /// What is wrong with it.
        source: rafs::Error,
    },
    /// The image was expected to be a RAFS image and is not.
    #[error("{place} is not a RAFS image: {reason}")]
    NotRafs {
        /// File or image.
        place: String,
        /// What is missing.
        reason: &'static str,
    },
    /// Stored bytes of a chunk do not give its content.
    #[error("chunk {index} of blob {blob}")]
    Chunk {
        /// Blob id.
        blob: String,
        /// The chunk's number there.
        index: u32,
        /// What is wrong.
        source: ChunkFault,
    },
    /// What a blob's chunks are cut from cannot be found out.
    #[error("chunk infos of blob {blob}")]
    BlobMeta {
        /// Blob id.
        blob: String,
        /// What is wrong with them.
        source: rafs::blob::MetaError,
    },
    /// A path was asked for that the image does not have, or that is not of the needed kind.
    #[error("{path}: {reason}")]
    Path {
        /// Path in the image.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A local file cannot be read or written.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was tried, as a participle: `creating`, `writing`.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The folder to unpack into has something in it.
    #[error("{} is not empty", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// The worker threads cannot be started.
    #[error("starting worker threads: {0}")]
    Threads(String),
    /// A thread or task ended without its result, because the work is being given up.
    #[error("interrupted")]
    Interrupted,
}

/// Why stored bytes do not give a chunk's content.
#[derive(Debug, thiserror::Error)]
pub enum ChunkFault {
    /// The bytes are not those of the chunk.
    #[error(transparent)]
    Decode(#[from] rafs::chunk::DecodeError),
    /// Where they are stored is not known for sure.
    #[error(transparent)]
    Place(#[from] rafs::blob::MetaError),
}

/// Why a source is no image to convert.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The source is converted already.
    #[error("it is a RAFS image already")]
    AlreadyRafs,
    /// Charts, signatures, WebAssembly modules and other artifacts.
    #[error("media type {0} is not a container image")]
    NotAnImage(String),
    /// A layer of a kind that holds no files, or none we can read.
    #[error("media type {0} is not a layer of files")]
    UnknownLayer(String),
    /// The layer needs a key.
    #[error("it is encrypted")]
    Encrypted,
    /// A layer that may not be distributed was not.
    #[error("it is a foreign layer, and its place does not have its data")]
    Foreign,
    /// Layers and the config's diff ids differ in number.
    #[error("the manifest has {layers} layers, the config names {diff_ids}")]
    LayerCount {
        /// In the manifest.
        layers: usize,
        /// In the config.
        diff_ids: usize,
    },
    /// Nothing for the wanted platform.
    #[error("no image for {wanted}; there are: {available}")]
    NoPlatform {
        /// As asked.
        wanted: String,
        /// As offered, separated by commas.
        available: String,
    },
}

/// Why one layer cannot be converted.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The archive cannot be read.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// The compressed stream cannot be started.
    #[error("opening the compressed stream")]
    Decompress(#[source] std::io::Error),
    /// A compression this converter has no decoder for.
    #[error("compressed with {0}, which is not supported")]
    UnsupportedCompression(&'static str),
    /// The uncompressed bytes are not those the config names.
    #[error("diff id mismatch: the config says {expected}, the content is {actual}")]
    DiffId {
        /// In the config.
        expected: String,
        /// Of what came.
        actual: String,
    },
    /// One member cannot become part of the image.
    #[error("entry {path:?} at byte {offset}: {problem}")]
    Entry {
        /// Name as written, lossily.
        path: String,
        /// Offset of its header in the uncompressed layer.
        offset: u64,
        /// What is wrong.
        problem: Problem,
    },
    /// More than the format can hold.
    #[error("the layer has more than {limit} chunks")]
    TooManyChunks {
        /// The limit.
        limit: u32,
    },
    /// The blob has no room for the layer.
    #[error("the layer does not fit one blob")]
    Blob(#[from] rafs::blob::BlobError),
    /// The layer's own bootstrap cannot be written.
    #[error("writing the layer's own bootstrap")]
    Build(#[source] rafs::build::BuildError),
    /// More than can be held in memory: all layers are, until they are merged.
    #[error("up to this layer, the files of the image take more than {limit} bytes of memory")]
    TooManyMembers {
        /// The limit.
        limit: usize,
    },
    /// The other end of the pipeline is gone; its own error tells why.
    #[error("interrupted")]
    Interrupted,
}

/// What is wrong with one member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// File systems end names at NUL.
    #[error("the name contains a NUL byte")]
    NulInName,
    /// Longer than file systems allow.
    #[error("{what} is longer than {limit} bytes")]
    TooLong {
        /// Which part.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A number that does not fit.
    #[error("{what} {value} is larger than {limit}")]
    TooLarge {
        /// Which number.
        what: &'static str,
        /// As written.
        value: u64,
        /// The limit.
        limit: u64,
    },
    /// Holes are zeros to everybody who reads the file.
    #[error("the layer's sparse files have holes of more than {limit} bytes together")]
    TooManyHoles {
        /// The limit.
        limit: u64,
    },
    /// A whiteout of nothing, of `.` or of `..`.
    #[error("the whiteout names no file")]
    EmptyWhiteout,
    /// The root cannot be a file or a link.
    #[error("the root can only be a directory")]
    RootNotDirectory,
    /// A hard link to nothing.
    #[error("hard link to {target:?}, which is not there")]
    LinkTargetMissing {
        /// As written, lossily.
        target: String,
    },
    /// A hard link to a directory.
    #[error("hard link to directory {target:?}")]
    LinkToDirectory {
        /// As written, lossily.
        target: String,
    },
    /// Linux has no symbolic link to nothing at all.
    #[error("the symbolic link has no target")]
    EmptyTarget,
    /// A file of the same layer stands where a directory is needed.
    #[error("a parent is not a directory")]
    ParentNotDirectory,
    /// A circle of links, as good as.
    #[error("more than {limit} symbolic links on the way")]
    TooManyLinks {
        /// The limit.
        limit: u32,
    },
}
