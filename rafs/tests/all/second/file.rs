//! The file of a blob: sections, table of contents, chunk infos, chunks.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;

use sha2::{Digest, Sha256};

use super::bytes::{u32_at, u64_at};
use super::{Blob, Chunk};

/// The verified chunks of a blob, by number.
pub(crate) struct BlobFile {
    chunks: BTreeMap<u32, Vec<u8>>,
}

/// A chunk info, whatever its version.
struct Info {
    uncompressed: (u64, u32),
    compressed: (u64, u32),
    flags: u64,
    /// Context and offset in its output.
    part: (usize, usize),
}

/// A line of a table of contents.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub(crate) name: String,
    flags: u32,
    digest: Vec<u8>,
    pub(crate) stored: Range<usize>,
    len: u64,
}

impl BlobFile {
    /// Reads every chunk that the table lists, and checks all that the file says of itself.
    pub(crate) fn open<'a>(
        blob: &Blob,
        load: impl Fn(&str) -> Vec<u8>,
        table: impl Iterator<Item = (u32, &'a Chunk)>,
    ) -> Self {
        let file = load(&blob.id);
        let is_zran = blob.features & 8 != 0;
        if !is_zran {
            assert_eq!(hex::encode(Sha256::digest(&file)), blob.id);
        }
        let infos_of = if blob.features & 0x10 != 0 {
            load(&blob.meta_id)
        } else {
            file.clone()
        };
        let plain = chunk_infos(blob, &infos_of);
        let header = header(blob, &infos_of);
        let infos = infos(&plain, blob);
        let contexts = contexts(&plain, header, blob);
        let sections = sections(&infos_of, blob);
        let digests = sections.iter().find(|section| section.name == "blob.digest");
        let digests = digests.map(|section| &infos_of[section.stored.clone()]);
        let mut data = Vec::new();
        match is_zran {
            true => drop(
                flate2::read::MultiGzDecoder::new(&file[..])
                    .read_to_end(&mut data)
                    .unwrap(),
            ),
            false => data = file,
        }
        let chunks = table.map(|(number, row)| {
            let content = content(blob, &data, &infos[number as usize], row, &contexts);
            let digest = match blob.digester {
                0 => blake3::hash(&content).as_bytes().to_vec(),
                _ => Sha256::digest(&content).to_vec(),
            };
            assert_eq!(digest, row.digest, "chunk {number}");
            if let Some(digests) = digests {
                assert_eq!(&digests[32 * number as usize..][..32], digest);
            }
            (number, content)
        });
        let chunks = chunks.collect();
        BlobFile { chunks }
    }

    pub(crate) fn chunk(&self, number: u32) -> &[u8] {
        &self.chunks[&number]
    }
}

/// Reads the chunk infos, which follow each other in the uncompressed image.
fn infos(plain: &[u8], blob: &Blob) -> Vec<Info> {
    let count = blob.chunk_count as usize;
    let infos: Vec<Info> = match blob.features & 4 {
        0 => plain.chunks_exact(16).map(info_v1).collect(),
        _ => plain[..24 * count].chunks_exact(24).map(info_v2).collect(),
    };
    assert_eq!(infos.len(), count);
    let mut next = 0;
    for info in &infos {
        assert_eq!(info.uncompressed.0, next, "chunks follow each other");
        next += u64::from(info.uncompressed.1).next_multiple_of(4096);
    }
    assert_eq!(next, blob.uncompressed_size);
    infos
}

/// The content of a chunk. `data` is the file, of a gzip layer its output.
fn content(blob: &Blob, data: &[u8], info: &Info, row: &Chunk, contexts: &[Vec<u8>]) -> Vec<u8> {
    assert_eq!(info.uncompressed, row.uncompressed);
    if blob.features & 8 != 0 {
        let start = u64_at(&contexts[info.part.0], 8) as usize + info.part.1;
        return data[start..start + info.uncompressed.1 as usize].to_vec();
    }
    if info.flags & 4 != 0 {
        assert_eq!(
            (row.compressed, row.flags & 9),
            ((0, 0), 0),
            "members of batches are elsewhere"
        );
        return member(blob, data, info, contexts);
    }
    assert_eq!(row.compressed, info.compressed);
    let is_compressed = u64::from(info.compressed.1 != info.uncompressed.1);
    assert_eq!(
        (u64::from(row.flags) & 1, info.flags & 1),
        (is_compressed, is_compressed)
    );
    expand(blob.compressor, data, info.compressed, info.uncompressed.1)
}

fn expand(compressor: u32, file: &[u8], stored: (u64, u32), len: u32) -> Vec<u8> {
    let bytes = &file[stored.0 as usize..][..stored.1 as usize];
    let content = match compressor {
        _ if stored.1 == len => bytes.to_vec(),
        1 => lz4_flex::block::decompress(bytes, len as usize).unwrap(),
        3 => zstd::decode_all(bytes).unwrap(),
        other => panic!("compressor {other} that makes another length"),
    };
    assert_eq!(content.len(), len as usize);
    content
}

fn member(blob: &Blob, file: &[u8], info: &Info, contexts: &[Vec<u8>]) -> Vec<u8> {
    assert_eq!((info.flags & 5, info.compressed.1), (5, 0));
    let context = &contexts[info.part.0];
    let stored = (info.compressed.0, u32_at(context, 0));
    let batch = expand(blob.compressor, file, stored, u32_at(context, 4));
    batch[info.part.1..][..info.uncompressed.1 as usize].to_vec()
}

fn header<'a>(blob: &Blob, file: &'a [u8]) -> &'a [u8] {
    let header = &file[(blob.ci[0] + blob.ci[1]) as usize..][..4096];
    assert_eq!(
        (u32_at(header, 0), u32_at(header, 4092)),
        (0xB10B_B10B, 0xB10B_B10B)
    );
    assert_eq!(
        (u32_at(header, 8), u32_at(header, 12)),
        (blob.ci_compressor, blob.chunk_count)
    );
    assert_eq!([16, 24, 32].map(|at| u64_at(header, at)), blob.ci);
    assert!(header[60..4092].iter().all(|&byte| byte == 0));
    // The header keeps the bit that tables of merged images lose.
    assert_eq!(u32_at(header, 4) & !2 & 0xFFF, blob.features & !2 & 0xFFF);
    header
}

fn chunk_infos(blob: &Blob, file: &[u8]) -> Vec<u8> {
    let stored = &file[blob.ci[0] as usize..][..blob.ci[1] as usize];
    let plain = match blob.ci_compressor {
        0 => stored.to_vec(),
        1 => lz4_flex::block::decompress(stored, blob.ci[2] as usize).unwrap(),
        3 => zstd::decode_all(stored).unwrap(),
        other => panic!("chunk infos with compressor {other}"),
    };
    assert_eq!(plain.len() as u64, blob.ci[2]);
    plain
}

fn contexts(plain: &[u8], header: &[u8], blob: &Blob) -> Vec<Vec<u8>> {
    let (start, len, count) = (
        u64_at(header, 40),
        u64_at(header, 48),
        u32_at(header, 56) as usize,
    );
    if blob.features & 0x88 == 0 {
        assert_eq!((start, len, count), (0, 0, 0));
        return Vec::new();
    }
    assert_eq!(start + len, plain.len() as u64);
    assert_eq!(start, 24 * u64::from(blob.chunk_count));
    if blob.features & 0x80 != 0 {
        assert_eq!(len, 40 * count as u64);
    }
    let rows = plain[start as usize..].chunks_exact(40).take(count);
    rows.map(<[u8]>::to_vec).collect()
}

fn info_v1(row: &[u8]) -> Info {
    let (w0, w1) = (u64_at(row, 0), u64_at(row, 8));
    assert_eq!(w0 & 0xFF, 0);
    let len = (w0 >> 44 | (w0 >> 8 & 0xF) << 20) + 1;
    let stored = (w1 >> 44 | (w1 >> 40 & 0xF) << 20) + 1;
    Info {
        uncompressed: (w0 & 0xFFF_FFFF_F000, len as u32),
        compressed: (w1 & 0xFF_FFFF_FFFF, stored as u32),
        flags: u64::from(len != stored),
        part: (0, 0),
    }
}

fn info_v2(row: &[u8]) -> Info {
    let [w0, w1, w2] = [0, 8, 16].map(|at| u64_at(row, at));
    Info {
        uncompressed: ((w0 & 0xFFFF_FFFF) << 12, (w0 >> 32 & 0xFF_FFFF) as u32 + 1),
        compressed: (w1 & 0xFF_FFFF_FFFF, (w1 >> 40) as u32),
        flags: w0 >> 56,
        part: ((w2 >> 32) as usize, (w2 & 0xFFFF_FFFF) as usize),
    }
}

/// The size that a tar header at `at` gives for `name`.
fn tar_size(file: &[u8], at: usize, name: &str) -> usize {
    let header = &file[at..at + 512];
    assert_eq!(
        header[..100].split(|&byte| byte == 0).next().unwrap(),
        name.as_bytes()
    );
    let octal = |range: Range<usize>| {
        let text = std::str::from_utf8(&header[range]).unwrap();
        usize::from_str_radix(text.trim_matches(['\0', ' ']), 8).unwrap()
    };
    let sum: usize = header.iter().map(|&byte| usize::from(byte)).sum();
    let own: usize = header[148..156].iter().map(|&byte| usize::from(byte)).sum();
    assert_eq!(octal(148..156), sum - own + 8 * usize::from(b' '));
    assert_eq!((header[156], &header[257..263]), (b'0', &b"ustar "[..]));
    octal(124..136)
}

/// Reads the table of contents alone.
pub(crate) fn toc(file: &[u8]) -> Vec<Section> {
    let len = tar_size(file, file.len() - 512, "rafs.blob.toc");
    let rows = file[file.len() - 512 - len..][..len].chunks_exact(128);
    rows.map(section).collect()
}

/// Reads the table of contents, and checks sections, their tar headers and what the blob table says of them.
pub(crate) fn sections(file: &[u8], blob: &Blob) -> Vec<Section> {
    let toc_len = tar_size(file, file.len() - 512, "rafs.blob.toc");
    let toc = &file[file.len() - 512 - toc_len..];
    let sections = self::toc(file);
    if blob.toc_size != 0 {
        assert_eq!(blob.toc_size as usize, toc.len());
        assert_eq!(Sha256::digest(toc).to_vec(), blob.toc_digest);
        assert_eq!(blob.compressed_size, file.len() as u64);
    }
    if blob.features & 0x10 != 0 {
        return sections;
    }
    let mut at = 0;
    for section in &sections {
        assert_eq!(section.stored.start, at, "{}", section.name);
        let stored = &file[section.stored.clone()];
        let end = section.stored.end;
        let (header_len, digest) = match section.name.as_str() {
            // Its header follows the header of the chunk infos, and counts both.
            "blob.meta" => (0, content_digest(section, stored)),
            "blob.meta.header" => {
                let infos = sections
                    .iter()
                    .find(|section| section.name == "blob.meta")
                    .unwrap();
                assert_eq!(tar_size(file, end, "blob.meta"), infos.stored.len() + 4096);
                (512, content_digest(section, stored))
            }
            "image.blob" => {
                assert_eq!((section.flags, section.len), (1, blob.uncompressed_size));
                (512, Sha256::digest(&file[..end + 512]).to_vec())
            }
            _ => (512, content_digest(section, stored)),
        };
        if header_len > 0 && section.name != "blob.meta.header" {
            assert_eq!(tar_size(file, end, &section.name), stored.len());
        }
        assert_eq!(digest, section.digest, "{}", section.name);
        at = end + header_len;
    }
    assert_eq!(at, file.len() - toc.len());
    if let Some(boot) = sections.iter().find(|section| section.name == "image.boot") {
        assert_eq!(
            (blob.toc_size, blob.compressed_size),
            (0, boot.stored.start as u64)
        );
    }
    sections
}

fn section(row: &[u8]) -> Section {
    let start = u64_at(row, 56) as usize;
    assert!(row[80..].iter().all(|&byte| byte == 0));
    let name = row[8..24].split(|&byte| byte == 0).next().unwrap();
    Section {
        name: String::from_utf8(name.to_vec()).unwrap(),
        flags: u32_at(row, 0),
        digest: row[24..56].to_vec(),
        stored: start..start + u64_at(row, 64) as usize,
        len: u64_at(row, 72),
    }
}

/// Expands a section.
pub(crate) fn plain(section: &Section, stored: &[u8]) -> Vec<u8> {
    let plain = match section.flags {
        1 => stored.to_vec(),
        2 => zstd::decode_all(stored).unwrap(),
        4 => lz4_flex::block::decompress(stored, section.len as usize).unwrap(),
        other => panic!("flags {other} of a section"),
    };
    assert_eq!(plain.len() as u64, section.len);
    plain
}

fn content_digest(section: &Section, stored: &[u8]) -> Vec<u8> {
    Sha256::digest(plain(section, stored)).to_vec()
}
