//! Tar archives of layouts (`oci-archive:`): members are found once, blobs are read in place.

pub(crate) mod writer;

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::{Component, Path};

use oci_spec::image::Digest;

use super::Error;
use super::layout;
use super::local::{Blobs, Local, Slice};
use super::manifest::MANIFEST_LEN_MAX;

/// Members that an archive may have: far above any image, and small enough to hold in memory.
const MEMBER_COUNT_MAX: usize = 1 << 16;
/// Links that are followed one after the other.
const LINK_COUNT_MAX: usize = 8;
/// How compressed files begin, and how to undo it.
const COMPRESSED: [(&[u8], &str); 4] = [
    (b"\x1f\x8b", "gunzip"),
    (b"\x28\xb5\x2f\xfd", "unzstd"),
    (b"\xfd7zXZ", "unxz"),
    (b"BZh", "bunzip2"),
];

/// What a member is.
enum Member {
    File(Slice),
    /// Full name of the member it stands for.
    Link(String),
}

/// The regular files and links of a tar, by cleaned name.
pub(crate) struct Archive {
    place: String,
    members: HashMap<String, Member>,
}

impl Archive {
    /// Reads all headers. Blocking.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let whole = Slice::open(path)?;
        let place = path.display().to_string();
        // Blobs are read at their offsets, so that nobody else moves this descriptor's position.
        let mut reader = BufReader::new(whole.file.try_clone().map_err(Error::file(path))?);
        refuse_compressed(&mut reader, path)?;
        let members = index(reader, &whole).map_err(|error| match error {
            Error::Io(error) => Error::invalid(format!("tar archive {place}"), &error),
            other => other,
        })?;
        Ok(Self { place, members })
    }

    /// The file called `name`, through links.
    pub(crate) fn file(&self, name: &str) -> Result<&Slice, Error> {
        let mut current = clean(Path::new(name)).unwrap_or_default();
        for _ in 0..=LINK_COUNT_MAX {
            match self.members.get(&current) {
                Some(Member::File(slice)) => return Ok(slice),
                Some(Member::Link(target)) => current.clone_from(target),
                None => {
                    return Err(Error::NotFound {
                        what: format!("member {name:?}"),
                        place: self.place.clone(),
                    });
                }
            }
        }
        Err(Error::invalid(
            format!("member {name:?} of {}", self.place),
            "too many links",
        ))
    }

    /// Every regular file with its name.
    fn files(&self) -> impl Iterator<Item = (&str, &Slice)> {
        self.members.iter().filter_map(|(name, member)| match member {
            Member::File(slice) => Some((name.as_str(), slice)),
            Member::Link(_) => None,
        })
    }
}

/// Opens the image `tag` of an archived layout. Blocking.
pub(crate) fn open(path: &Path, tag: Option<&str>) -> Result<Local, Error> {
    let archive = Archive::open(path)?;
    let index = archive.file(layout::INDEX)?.read(MANIFEST_LEN_MAX)?;
    let slices = archive
        .files()
        .filter_map(|(name, slice)| Some((blob_digest(name)?, slice.clone())))
        .collect();
    layout::open_image(archive.place, &index, Blobs::Slices(slices), tag)
}

/// The digest that a name like `blobs/sha256/<hex>` stands for.
pub(crate) fn blob_digest(name: &str) -> Option<Digest> {
    let (algorithm, value) = name.strip_prefix("blobs/")?.split_once('/')?;
    format!("{algorithm}:{value}").parse().ok()
}

fn refuse_compressed(reader: &mut BufReader<File>, path: &Path) -> Result<(), Error> {
    let mut start = Vec::new();
    reader
        .by_ref()
        .take(8)
        .read_to_end(&mut start)
        .map_err(Error::file(path))?;
    reader.rewind().map_err(Error::file(path))?;
    match COMPRESSED.iter().find(|(magic, _)| start.starts_with(magic)) {
        Some((_, tool)) => {
            let reason =
                format!("a compressed archive cannot be read in place; undo that first, with {tool}");
            Err(Error::invalid(path.display().to_string(), &reason))
        }
        None => Ok(()),
    }
}

fn index(reader: BufReader<File>, whole: &Slice) -> Result<HashMap<String, Member>, Error> {
    let mut archive = tar::Archive::new(reader);
    let mut members = HashMap::new();
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let Some(name) = clean(&entry.path()?) else {
            continue;
        };
        let member = match entry.header().entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                let start = entry.raw_file_position();
                let end = start.saturating_add(entry.size());
                Member::File(whole.part(&(start..end))?)
            }
            tar::EntryType::Symlink | tar::EntryType::Link => {
                let Some(target) = entry.link_name()? else {
                    continue;
                };
                let from_root = entry.header().entry_type().is_hard_link();
                let parent = if from_root {
                    None
                } else {
                    Path::new(&name).parent()
                };
                let Some(target) = clean(&parent.unwrap_or(Path::new("")).join(target)) else {
                    continue;
                };
                Member::Link(target)
            }
            _ => continue,
        };
        if members.len() >= MEMBER_COUNT_MAX {
            return Err(Error::invalid(
                whole.path.display().to_string(),
                "too many members",
            ));
        }
        members.insert(name, member);
    }
    Ok(members)
}

/// `name` without dot components; `None` when it leaves the archive, is empty or not UTF-8.
fn clean(name: &Path) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for component in name.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::ParentDir => drop(parts.pop()?),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}
