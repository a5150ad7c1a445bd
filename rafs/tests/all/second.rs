//! A second reader, written from the description of the format alone. It shares no code with the crate, so that what
//! the crate misunderstands does not agree with itself. It knows only what valid images are, and panics at the rest.

// Other crates include this file too, from where the names alone would not lead to these.
#[path = "second/bytes.rs"]
mod bytes;
#[path = "second/file.rs"]
pub(crate) mod file;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use bytes::{Bytes, u16_at, u32_at, u64_at};
use file::BlobFile;

/// One name in an image.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    nid: u64,
    mode: u16,
    nlink: u32,
    owner: (u32, u32),
    mtime_ns: i128,
    xattrs: BTreeMap<String, String>,
    rdev: u32,
    pub(crate) data: Vec<u8>,
}

/// What a blob table says of a blob; offsets as in the table.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) id: String,
    pub(crate) chunk_count: u32,
    pub(crate) compressor: u32,
    pub(crate) digester: u32,
    pub(crate) features: u32,
    pub(crate) compressed_size: u64,
    pub(crate) uncompressed_size: u64,
    pub(crate) toc_size: u32,
    pub(crate) toc_digest: Vec<u8>,
    pub(crate) ci_compressor: u32,
    /// Offset, compressed size, uncompressed size.
    pub(crate) ci: [u64; 3],
    pub(crate) meta_id: String,
}

/// A line of the chunk table.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub(crate) digest: Vec<u8>,
    pub(crate) flags: u32,
    pub(crate) compressed: (u64, u32),
    pub(crate) uncompressed: (u64, u32),
}

/// A bootstrap with its tables.
struct Bootstrap<'a> {
    bytes: Bytes<'a>,
    meta: u64,
    chunk_size: u64,
    blobs: Vec<Blob>,
    chunks: BTreeMap<(u32, u32), Chunk>,
    files: Vec<BlobFile>,
}

/// Reads a whole image. `load` gives the file of a blob.
pub(crate) fn read(bootstrap: &[u8], load: impl Fn(&str) -> Vec<u8>) -> (Vec<Blob>, Vec<Entry>) {
    let bytes = Bytes::new(bootstrap);
    let sb = bytes.get(1024, 128);
    assert_eq!(u32_at(sb, 0), 0xE0F5_E1E2);
    assert_eq!(
        (u32_at(sb, 4), u32_at(sb, 8)),
        (0, 0x4000_0000),
        "checksum, compatible features"
    );
    assert_eq!((sb[12], sb[13]), (12, 0), "block bits, extra slots");
    assert_eq!(u32_at(sb, 44), 0, "shared attributes");
    assert!(sb[48..80].iter().all(|&byte| byte == 0), "uuid, volume name");
    assert_eq!((u32_at(sb, 80), u16_at(sb, 84), u16_at(sb, 88)), (0x0C, 0, 11));
    let ext = bytes.get(1152, 256);
    let (blob_table, chunk_table) = (u64_at(ext, 8), u64_at(ext, 24));
    assert_eq!((blob_table % 4096, chunk_table % 4096), (0, 0));
    let count = u32::from(u16_at(sb, 86));
    assert_eq!(u32_at(ext, 16), 256 * count);
    let chunk_size = u64::from(u32_at(ext, 20));
    check_flags(u64_at(ext, 0));
    bytes.get(u64_at(ext, 40), u64::from(u32_at(ext, 48)));
    let blobs: Vec<Blob> = (0..count)
        .map(|index| {
            blob(
                bytes.get(blob_table + 256 * u64::from(index), 256),
                index,
                chunk_size,
            )
        })
        .collect();
    devices(&bytes, &blobs, u32_at(sb, 36));
    let chunks = chunk_rows(bytes.get(chunk_table, u64_at(ext, 32)));
    let files = (0..).zip(&blobs).map(|(index, blob)| {
        let table = chunks.range((index, 0)..(index + 1, 0));
        BlobFile::open(blob, &load, table.map(|(&(_, number), chunk)| (number, chunk)))
    });
    let files = files.collect();
    let meta = 4096 * u64::from(u32_at(sb, 40));
    let image = Bootstrap {
        bytes,
        meta,
        chunk_size,
        blobs,
        chunks,
        files,
    };
    let mut entries = Vec::new();
    let root = u64::from(u16_at(sb, 14));
    image.inode(root, b"", &mut entries, root);
    image.bytes.check_rest_is_zero();
    (image.blobs, entries)
}

fn check_flags(flags: u64) {
    assert_eq!((flags & 0xC3).count_ones(), 1, "one compressor");
    assert_eq!((flags & 0x0C).count_ones(), 1, "one digest");
    assert_eq!(
        flags & !(0xCF | 0x130 | 0x0100_0000),
        0,
        "unknown flags {flags:#x}"
    );
}

fn blob(row: &[u8], index: u32, chunk_size: u64) -> Blob {
    assert_eq!(u32_at(row, 64), index);
    assert_eq!(u64::from(u32_at(row, 68)), chunk_size);
    let features = u32_at(row, 84);
    assert_eq!(
        features & 0x4000_0021,
        0x4000_0021,
        "aligned, digests inlined, modern"
    );
    assert_eq!(u32_at(row, 216), 0, "cipher");
    Blob {
        id: String::from_utf8(row[..64].to_vec()).unwrap(),
        chunk_count: u32_at(row, 72),
        compressor: u32_at(row, 76),
        digester: u32_at(row, 80),
        features,
        compressed_size: u64_at(row, 88),
        uncompressed_size: u64_at(row, 96),
        toc_size: u32_at(row, 104),
        toc_digest: row[136..168].to_vec(),
        ci_compressor: u32_at(row, 108),
        ci: [u64_at(row, 112), u64_at(row, 120), u64_at(row, 128)],
        meta_id: hex::encode(&row[168..200]),
    }
}

fn devices(bytes: &Bytes<'_>, blobs: &[Blob], total: u32) {
    let mut next = bytes.len();
    let mut sum = 0;
    for (slot, blob) in (0..).zip(blobs) {
        let row = bytes.get(1408 + 128 * slot, 128);
        let blocks = blob.uncompressed_size / 4096;
        assert_eq!(&row[..64], blob.id.as_bytes());
        assert_eq!(u64::from(u32_at(row, 64)), blocks);
        let start = next.next_multiple_of(512 << 10) / 4096;
        assert_eq!(u64::from(u32_at(row, 68)), start, "mapped address");
        next = (start + blocks) * 4096;
        sum += blocks;
    }
    assert_eq!(u64::from(total), sum);
}

fn chunk_rows(table: &[u8]) -> BTreeMap<(u32, u32), Chunk> {
    let mut chunks = BTreeMap::new();
    let mut last = (Vec::new(), 0);
    for row in table.chunks_exact(80) {
        let key = (row[..32].to_vec(), u32_at(row, 32) + 1);
        assert!(last < key, "chunk table out of order");
        last = key;
        let chunk = Chunk {
            digest: row[..32].to_vec(),
            flags: u32_at(row, 36),
            compressed: (u64_at(row, 48), u32_at(row, 40)),
            uncompressed: (u64_at(row, 56), u32_at(row, 44)),
        };
        assert!(chunks.insert((u32_at(row, 32), u32_at(row, 72)), chunk).is_none());
    }
    chunks
}

impl Bootstrap<'_> {
    /// Reads an inode and, if a directory, all that is in it.
    fn inode(&self, nid: u64, path: &[u8], entries: &mut Vec<Entry>, parent: u64) {
        let at = self.meta + nid * 32;
        let is_extended = u16_at(self.bytes.get(at, 2), 0) & 1 == 1;
        let len = if is_extended { 64 } else { 32 };
        let inode = self.bytes.get(at, len);
        let word = |extended, compact| u32_at(inode, if is_extended { extended } else { compact });
        let half = |at| u32::from(u16_at(inode, at));
        let (mode, layout) = (u16_at(inode, 4), u16_at(inode, 0) >> 1);
        let size = if is_extended {
            u64_at(inode, 8)
        } else {
            u64::from(u32_at(inode, 8))
        };
        let (xattrs, body) = self.xattrs(at + len, u16_at(inode, 2));
        let union_word = word(16, 16);
        let mut entry = Entry {
            path: path.to_vec(),
            nid,
            mode,
            nlink: if is_extended { u32_at(inode, 44) } else { half(6) },
            owner: if is_extended {
                (u32_at(inode, 24), u32_at(inode, 28))
            } else {
                (half(24), half(26))
            },
            mtime_ns: match is_extended {
                true => i128::from(u64_at(inode, 32) as i64) * 1_000_000_000 + i128::from(u32_at(inode, 40)),
                false => 0,
            },
            xattrs,
            rdev: 0,
            data: Vec::new(),
        };
        match mode >> 12 {
            0o10 => entry.data = self.content(body, layout, size, union_word),
            0o4 | 0o12 => entry.data = self.plain(body, layout, size, union_word),
            _ => (entry.rdev, _) = (union_word, assert_eq!((layout, size), (0, 0))),
        }
        let data = entry.data.clone();
        entries.push(entry);
        if mode >> 12 == 0o4 {
            self.children(&data, nid, path, entries, parent);
        }
    }

    fn xattrs(&self, at: u64, icount: u16) -> (BTreeMap<String, String>, u64) {
        let mut xattrs = BTreeMap::new();
        if icount == 0 {
            return (xattrs, at);
        }
        let len = 12 + 4 * (u64::from(icount) - 1);
        let body = self.bytes.get(at, len);
        assert!(body[..12].iter().all(|&byte| byte == 0));
        let mut rest = &body[12..];
        while !rest.is_empty() {
            let (name, value) = (usize::from(rest[0]), usize::from(u16_at(rest, 2)));
            let prefix = match rest[1] {
                1 => "user.",
                2 => "system.posix_acl_access",
                3 => "system.posix_acl_default",
                4 => "trusted.",
                6 => "security.",
                other => panic!("attribute of kind {other}"),
            };
            let text = std::str::from_utf8(&rest[4..4 + name]).unwrap();
            let content = hex::encode(&rest[4 + name..4 + name + value]);
            assert!(xattrs.insert(format!("{prefix}{text}"), content).is_none());
            rest = &rest[(4 + name + value).next_multiple_of(4)..];
        }
        (xattrs, at + len)
    }

    fn content(&self, body: u64, layout: u16, size: u64, format: u32) -> Vec<u8> {
        assert_eq!(layout, 4, "chunk based");
        assert_eq!(format & !0x1F, 0x20);
        assert!(4096 << (format & 0x1F) >= self.chunk_size);
        let count = size.div_ceil(self.chunk_size);
        let index = self.bytes.get(body.next_multiple_of(8), 8 * count);
        let mut content = Vec::new();
        for row in index.chunks_exact(8) {
            let number = u32::from(row[3]) << 16 | u32::from(u16_at(row, 0));
            let blob = u32::from(row[2]) - 1;
            let chunk = &self.chunks[&(blob, number)];
            assert_eq!(chunk.uncompressed.0, 4096 * u64::from(u32_at(row, 4)));
            content.extend_from_slice(self.files[blob as usize].chunk(number));
        }
        assert_eq!(content.len() as u64, size);
        content
    }

    fn plain(&self, body: u64, layout: u16, size: u64, block: u32) -> Vec<u8> {
        let start = 4096 * u64::from(block);
        let tail = size % 4096;
        match layout {
            0 => self.bytes.get(start, size).to_vec(),
            2 => {
                assert!(tail > 0 && body % 4096 + tail <= 4096, "the tail crosses a block");
                [self.bytes.get(start, size - tail), self.bytes.get(body, tail)].concat()
            }
            other => panic!("layout {other}"),
        }
    }

    fn children(&self, data: &[u8], nid: u64, path: &[u8], entries: &mut Vec<Entry>, parent: u64) {
        let mut last: Vec<u8> = Vec::new();
        let mut dots = 0;
        for block in data.chunks(4096) {
            let count = usize::from(u16_at(block, 8)) / 12;
            for at in 0..count {
                let row = &block[12 * at..12 * at + 12];
                let start = usize::from(u16_at(row, 8));
                let end = match at + 1 == count {
                    true => block.len(),
                    false => usize::from(u16_at(block, 12 * (at + 1) + 8)),
                };
                let name = block[start..end].split(|&byte| byte == 0).next().unwrap();
                assert!(last.as_slice() < name, "names out of order");
                last = name.to_vec();
                let child = u64_at(row, 0);
                if name == b"." || name == b".." {
                    assert_eq!(child, if name == b"." { nid } else { parent });
                    dots += 1;
                    continue;
                }
                let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
                let first = entries.len();
                self.inode(child, &[path, slash, name].concat(), entries, nid);
                let kind = [0, 5, 3, 0, 2, 0, 4, 0, 1, 0, 7, 0, 6][usize::from(entries[first].mode >> 12)];
                assert_eq!(row[10], kind, "kind of {}", name.escape_ascii());
            }
        }
        assert_eq!(dots, 2);
    }
}

/// Descriptions of all names but the root, as the fixtures' `*.jsonl` have them.
pub(crate) fn lines(entries: &[Entry]) -> BTreeMap<String, Value> {
    let text = |path: &[u8]| String::from_utf8(path.to_vec()).unwrap();
    let mut groups: BTreeMap<u64, Vec<&[u8]>> = BTreeMap::new();
    for entry in entries {
        groups.entry(entry.nid).or_default().push(&entry.path);
    }
    let line = |entry: &Entry| {
        let mut line = json!({
            "path": text(&entry.path), "uid": entry.owner.0, "gid": entry.owner.1, "xattr": entry.xattrs,
            "mode": format!("{:#o}", entry.mode & 0o7777), "mtime_ns": i64::try_from(entry.mtime_ns).unwrap(),
        });
        let mut set =
            |key: &str, value: Value| drop(line.as_object_mut().map(|line| line.insert(key.into(), value)));
        let mut size = entry.data.len();
        match entry.mode >> 12 {
            0o4 => {
                set("type", "dir".into());
                return Value::Object(line.as_object().cloned().unwrap_or_else(Map::new));
            }
            0o10 => {
                set("type", "file".into());
                set("content", hex::encode(Sha256::digest(&entry.data)).into());
            }
            0o12 => {
                set("type", "symlink".into());
                set("target", hex::encode(&entry.data).into());
            }
            kind => {
                size = 0;
                set("type", if kind == 2 { "char" } else { "block" }.into());
                let (major, minor) = (
                    entry.rdev >> 8 & 0xFFF,
                    entry.rdev & 0xFF | entry.rdev >> 12 & 0xF_FF00,
                );
                set("rdev", format!("{major}:{minor}").into());
            }
        }
        let mut group = groups[&entry.nid].clone();
        group.sort();
        let group: Vec<String> = group.into_iter().map(hex::encode).collect();
        assert_eq!(entry.nlink as usize, group.len());
        set(
            "hlgroup",
            if group.len() > 1 {
                group.join("00")
            } else {
                String::new()
            }
            .into(),
        );
        set("size", size.into());
        set("nlink", entry.nlink.into());
        line
    };
    let named = entries.iter().filter(|entry| !entry.path.is_empty());
    named.map(|entry| (text(&entry.path), line(entry))).collect()
}
