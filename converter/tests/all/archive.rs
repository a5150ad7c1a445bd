//! Tar layers to convert, and tar archives to look into.

use std::collections::BTreeMap;
use std::io::Read;

use tar::{EntryType, Header};

/// A layer under construction.
#[derive(Clone, Default)]
pub(crate) struct Layer(Vec<u8>);

/// One member to add.
pub(crate) struct Member<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) kind: EntryType,
    pub(crate) mode: u32,
    pub(crate) owner: (u64, u64),
    pub(crate) mtime: u64,
    pub(crate) link: &'a [u8],
    pub(crate) device: (u32, u32),
    pub(crate) content: &'a [u8],
}

impl<'a> Member<'a> {
    pub(crate) fn new(name: &'a [u8], kind: EntryType) -> Self {
        let mode = if kind == EntryType::Directory {
            0o755
        } else {
            0o644
        };
        Member {
            name,
            kind,
            mode,
            owner: (0, 0),
            mtime: 0,
            link: b"",
            device: (0, 0),
            content: b"",
        }
    }
}

impl Layer {
    pub(crate) fn add(mut self, member: &Member<'_>) -> Self {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..member.name.len()].copy_from_slice(member.name);
        header.as_old_mut().linkname[..member.link.len()].copy_from_slice(member.link);
        header.set_entry_type(member.kind);
        header.set_mode(member.mode);
        header.set_uid(member.owner.0);
        header.set_gid(member.owner.1);
        header.set_mtime(member.mtime);
        header.set_device_major(member.device.0).unwrap();
        header.set_device_minor(member.device.1).unwrap();
        header.set_size(member.content.len() as u64);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(member.content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, name: &str, content: &[u8]) -> Self {
        self.add(&Member {
            content,
            ..Member::new(name.as_bytes(), EntryType::Regular)
        })
    }

    pub(crate) fn dir(self, name: &str) -> Self {
        self.add(&Member::new(name.as_bytes(), EntryType::Directory))
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.add(&Member {
            link: target.as_bytes(),
            ..Member::new(name.as_bytes(), EntryType::Symlink)
        })
    }

    pub(crate) fn link(self, name: &str, target: &str) -> Self {
        self.add(&Member {
            link: target.as_bytes(),
            ..Member::new(name.as_bytes(), EntryType::Link)
        })
    }

    /// Extended header for the next member (`global`: for all that follow).
    pub(crate) fn pax(self, global: bool, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let len = (rest..).find(|len| rest + len.to_string().len() == *len).unwrap();
            data.extend_from_slice(format!("{len} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        let kind = if global {
            EntryType::XGlobalHeader
        } else {
            EntryType::XHeader
        };
        self.add(&Member {
            content: &data,
            ..Member::new(b"pax", kind)
        })
    }

    pub(crate) fn raw(mut self, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        change(&mut self.0);
        self
    }

    /// The whole archive.
    pub(crate) fn bytes(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// A path of an archive, in one line, with everything that matters.
pub(crate) fn listing(archive: &[u8]) -> BTreeMap<String, String> {
    let mut lines = BTreeMap::new();
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let mut extra = String::new();
        let mut mtime = entry.header().mtime().unwrap().to_string();
        let records: Vec<_> = entry
            .pax_extensions()
            .unwrap()
            .into_iter()
            .flatten()
            .map(|record| record.unwrap())
            .map(|record| (record.key_bytes().to_vec(), record.value_bytes().to_vec()))
            .collect();
        for (key, value) in records {
            match &key[..] {
                b"mtime" => mtime = String::from_utf8(value).unwrap(),
                key if key.starts_with(b"SCHILY") => {
                    extra += &format!(" {}={}", key[13..].escape_ascii(), value.escape_ascii());
                }
                _ => {}
            }
        }
        let header = entry.header();
        let kind = header.entry_type();
        let link = entry
            .link_name_bytes()
            .map(|link| format!(" -> {}", link.escape_ascii()))
            .unwrap_or_default();
        let device = match kind {
            EntryType::Char | EntryType::Block => {
                format!(
                    " {:?}",
                    (
                        header.device_major().unwrap().unwrap(),
                        header.device_minor().unwrap().unwrap()
                    )
                )
            }
            _ => String::new(),
        };
        let content = match content.len() {
            0..=40 => content.escape_ascii().to_string(),
            len => format!("{len} bytes {}", crate::place::sha256(&content)),
        };
        let line = format!(
            "{kind:?} {:o} {}:{} {mtime}{link}{device}{extra} {content}",
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap(),
        );
        lines.insert(
            entry.path_bytes().escape_ascii().to_string(),
            line.trim_end().to_owned(),
        );
    }
    lines
}
