//! Checking a blob file but for its chunks: every byte of it as it passes, fault by fault.
//!
//! What lies where follows from the blob table, the length of the file and its table of contents; the caller streams the
//! whole file through. Memory stays small whatever the length: sections are hashed as they pass.

mod data;
mod header;
mod plan;
mod section;
mod toc;

use std::borrow::Cow;

use sha2::{Digest as _, Sha256};

use super::{Units, tar_header};
use crate::chunk::BlobIndex;
use crate::image::{Blob, Image};
use data::Data;
use plan::{Kind, Part};
use section::{Digests, Expander};
use toc::Contents;

/// Most faults of one file that are reported: a file of noise has one in every chunk, and nobody reads them all.
pub const BLOB_FAULTS_MAX: usize = 10_000;

/// Something wrong in a blob file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobFault {
    /// Byte offset in the file.
    pub offset: u64,
    /// What is wrong, as a sentence without a full stop.
    pub what: Cow<'static, str>,
}

impl std::fmt::Display for BlobFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "byte {}: {}", self.offset, self.what)
    }
}

/// Faults so far.
#[derive(Default)]
struct Faults(Vec<BlobFault>);

impl Faults {
    fn push(&mut self, offset: u64, what: impl Into<Cow<'static, str>>) {
        if self.0.len() < BLOB_FAULTS_MAX {
            let what = what.into();
            self.0.push(BlobFault { offset, what });
        }
    }
}

/// A file that says what it should, if the caller has it.
#[derive(Clone, Copy)]
pub struct Subject<'a, B> {
    /// The image.
    pub image: &'a Image<B>,
    /// The blob in it.
    pub blob: BlobIndex,
    /// Its chunk infos with [`Units::read`], if they can be read.
    pub infos: Option<&'a Units>,
}

/// Checks the file that holds the chunk infos of a blob (the one [`Blob::meta_range`] names): the blob's own, or a
/// separate one. Its bytes are given to [`update`](Self::update) in order, all of them.
pub struct BlobCheck<'a, B> {
    subject: Subject<'a, B>,
    blob: &'a Blob,
    contents: Contents,
    parts: std::vec::IntoIter<Part>,
    current: Option<Passing<'a>>,
    /// Bytes seen.
    at: u64,
    /// The running digest of the chunks, which covers their tar header too.
    data_hash: Option<Sha256>,
    faults: Faults,
}

/// The part that the next byte belongs to.
struct Passing<'a> {
    part: Part,
    state: State<'a>,
}

enum State<'a> {
    Data(Data<'a>),
    /// Collects what is small.
    Small(Vec<u8>),
    Section(Expander),
    Digests(Digests<'a>),
    /// Nothing is known of it but its length.
    Ignored,
}

impl<'a, B: AsRef<[u8]> + Sync> BlobCheck<'a, B> {
    /// Starts with a file of `len` bytes that ends with `tail` (the last [`TOC_TAIL_MAX`](super::TOC_TAIL_MAX) bytes, or
    /// all). `None` if the image has no such blob.
    pub fn new(subject: Subject<'a, B>, len: u64, tail: &[u8]) -> Option<Self> {
        let blob = subject.image.blobs().get(usize::from(subject.blob.0))?;
        let mut faults = Faults::default();
        let contents = Contents::read(blob, len, tail, &mut faults);
        let parts = plan::parts(blob, len, &contents, &mut faults);
        contents.compare(blob, &parts, &mut faults);
        let mut check = BlobCheck {
            subject,
            blob,
            contents,
            parts: parts.into_iter(),
            current: None,
            at: 0,
            data_hash: None,
            faults,
        };
        check.compare_tables();
        Some(check)
    }

    /// Takes the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.pass();
            let Some(passing) = &mut self.current else {
                // What is behind the announced length is counted by whoever announced it.
                self.at += bytes.len() as u64;
                return;
            };
            let start = passing.part.range.start;
            let left = passing.part.range.end - self.at;
            let len = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
            let (now, rest) = bytes.split_at(len);
            match &mut passing.state {
                State::Data(data) => data.update(now, &mut self.faults),
                State::Small(collected) => collected.extend_from_slice(now),
                State::Section(expander) => expander.update(now),
                State::Digests(digests) => digests.update(start, now, &mut self.faults),
                State::Ignored => {}
            }
            self.at += len as u64;
            bytes = rest;
        }
        self.pass();
    }

    /// Ends the file, and tells all that is wrong with it, in its order.
    pub fn finish(mut self) -> Vec<BlobFault> {
        self.pass();
        let cut = self.current.take().map(|passing| passing.part);
        if let Some(part) = cut {
            let what = format!("the file ends before {} does", part.kind.name());
            self.faults.push(self.at, what);
        }
        self.faults.0.sort_by_key(|fault| fault.offset);
        self.faults.0
    }

    /// Ends parts that are complete, and starts the one that is not.
    fn pass(&mut self) {
        loop {
            match self.current.take() {
                Some(passing) if self.at < passing.part.range.end => {
                    self.current = Some(passing);
                    return;
                }
                Some(passing) => self.end(passing),
                None => {
                    let Some(part) = self.parts.next() else { return };
                    let state = self.state(&part);
                    self.current = Some(Passing { part, state });
                }
            }
        }
    }

    fn state(&mut self, part: &Part) -> State<'a> {
        let section = part.kind.section().and_then(|name| self.contents.section(name));
        match part.kind {
            Kind::Data => State::Data(Data::new(
                self.subject.infos.filter(|_| plan::is_described(self.blob)),
                part.range.end,
                &mut self.faults,
            )),
            Kind::Header { .. } | Kind::InfosHeader => State::Small(Vec::new()),
            Kind::Infos | Kind::Bootstrap => match section {
                Some(section) => State::Section(Expander::new(section.compressor, section.len)),
                None => State::Ignored,
            },
            Kind::Digests => State::Digests(Digests::new(self.subject.image, self.subject.blob)),
            Kind::Toc | Kind::Unknown | Kind::Undescribed => State::Ignored,
        }
    }

    /// Looks at a part that has passed.
    fn end(&mut self, passing: Passing<'a>) {
        let Passing { part, state } = passing;
        let start = part.range.start;
        let digest = match (part.kind, state) {
            (_, State::Data(data)) => {
                self.data_hash = Some(data.finish());
                return;
            }
            (Kind::Header { name, size }, State::Small(bytes)) => {
                header::tar(&bytes, name, size, start, &mut self.faults);
                return self.end_data(&bytes, name);
            }
            (_, State::Small(bytes)) => {
                header::infos(&bytes, self.blob, start, &mut self.faults);
                Some(Sha256::digest(&bytes).into())
            }
            (_, State::Section(expander)) => match expander.finish() {
                Ok(digest) => Some(digest),
                Err(what) => return self.faults.push(start, format!("{}: {what}", part.kind.name())),
            },
            (_, State::Digests(digests)) => Some(digests.finish()),
            (_, State::Ignored) => None,
        };
        let listed = part.kind.section().and_then(|name| self.contents.section(name));
        if let (Some(digest), Some(listed)) = (digest, listed)
            && digest != listed.digest
        {
            self.misses(part.kind.name(), start);
        }
    }

    /// The digest of the chunks covers the tar header behind them.
    fn end_data(&mut self, header: &[u8], name: &str) {
        let (Some(hash), "image.blob") = (self.data_hash.take(), name) else {
            return;
        };
        let digest: [u8; 32] = hash.chain_update(header).finalize().into();
        if self
            .contents
            .section(name)
            .is_some_and(|listed| listed.digest != digest)
        {
            self.misses("image.blob", 0);
        }
    }

    fn misses(&mut self, name: &str, offset: u64) {
        self.faults.push(
            offset,
            format!("{name} has another digest than the table of contents says"),
        );
    }

    /// Whether chunk table and chunk infos agree.
    fn compare_tables(&mut self) {
        let Subject { image, blob, infos } = self.subject;
        let Some(infos) = infos else { return };
        for chunk in image.chunks(blob).flatten() {
            let offset = chunk.compressed.offset;
            // Where chunks share units, whoever reads them finds out.
            if !self.blob.has_shared_units()
                && let Err(error) = infos.piece(&chunk)
            {
                self.faults
                    .push(offset, format!("chunk {}: {error}", chunk.index));
            }
            let table = image.checksum(blob, chunk.index).ok().flatten();
            if let (Some(table), Some(info)) = (table, infos.checksum(chunk.index))
                && table != info
            {
                let what = format!(
                    "chunk {}: chunk info and chunk table have different checksums",
                    chunk.index
                );
                self.faults.push(offset, what);
            }
        }
    }
}

/// How the length of a tar header looks from here.
const HEADER_LEN: u64 = tar_header::LEN as u64;

/// Most bytes of padding between two chunks: less than a block.
const PADDING_MAX: u64 = crate::layout::BLOCK - 1;
