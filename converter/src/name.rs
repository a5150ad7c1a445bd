//! Names inside an image: cleaned to components under the root, whiteouts told apart.

use crate::error::Problem;

/// Linux's limit, and the format's.
pub(crate) const NAME_LEN_MAX: usize = 255;

/// Linux names nothing by a longer path (4096 bytes with the NUL), so no unpacker could make it.
pub(crate) const PATH_LEN_MAX: usize = 4095;

const WHITEOUT: &[u8] = b".wh.";
const AUFS_META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// A path as components from the root, none of them empty, `.` or `..`, with one slash between two. The root's is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CleanPath(Box<[u8]>);

/// What a member's name says beside being a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// An ordinary name.
    File(CleanPath),
    /// `.wh.NAME`: hides NAME of lower layers.
    Whiteout(CleanPath),
    /// `.wh..wh..opq`: hides all that lower layers have in this directory.
    Opaque(CleanPath),
    /// Bookkeeping of AUFS (`.wh..wh.plnk` and the like), which every unpacker skips.
    AufsMeta,
}

impl CleanPath {
    /// Cleans `name` as a path under the root: `.` and empty parts vanish, `..` climbs no higher than the root.
    pub fn clean(name: &[u8]) -> Self {
        let mut path: Vec<u8> = Vec::with_capacity(name.len());
        for part in components(name) {
            match part {
                b".." => {
                    let parent = path.iter().rposition(|byte| *byte == b'/');
                    path.truncate(parent.unwrap_or(0));
                }
                part => push(&mut path, part),
            }
        }
        CleanPath(path.into())
    }

    /// The whole path.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The components.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        components(&self.0)
    }

    /// Whether it is the root's.
    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path of `name` in a directory.
    pub(crate) fn join(parent: &[u8], name: &[u8]) -> Self {
        let mut path = Vec::with_capacity(parent.len() + 1 + name.len());
        path.extend_from_slice(parent);
        push(&mut path, name);
        CleanPath(path.into())
    }

    /// Directory and last component; `None` for the root.
    pub(crate) fn split(&self) -> Option<(&[u8], &[u8])> {
        if self.is_root() {
            return None;
        }
        Some(match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&self.0[..slash], &self.0[slash + 1..]),
            None => (&[], &self.0),
        })
    }

    fn check(&self) -> Result<(), Problem> {
        if self.0.contains(&0) {
            return Err(Problem::NulInName);
        }
        if self.components().any(|part| part.len() > NAME_LEN_MAX) {
            return Err(Problem::TooLong {
                what: "a name",
                limit: NAME_LEN_MAX,
            });
        }
        if self.0.len() > PATH_LEN_MAX {
            return Err(Problem::TooLong {
                what: "the path",
                limit: PATH_LEN_MAX,
            });
        }
        Ok(())
    }
}

/// Appends a component to a path.
pub(crate) fn push(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

/// Parts of a path that name something, `..` included.
pub(crate) fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
}

/// Reads a member's name.
pub(crate) fn meaning(name: &[u8]) -> Result<Meaning, Problem> {
    let path = CleanPath::clean(name);
    path.check()?;
    let Some((parent, last)) = path.split() else {
        return Ok(Meaning::File(path));
    };
    if last == OPAQUE {
        return Ok(Meaning::Opaque(CleanPath(parent.into())));
    }
    if path.components().any(|part| part.starts_with(AUFS_META)) {
        return Ok(Meaning::AufsMeta);
    }
    match last.strip_prefix(WHITEOUT) {
        None => Ok(Meaning::File(path)),
        Some(b"" | b"." | b"..") => Err(Problem::EmptyWhiteout),
        Some(hidden) => Ok(Meaning::Whiteout(CleanPath::join(parent, hidden))),
    }
}

/// Reads a hard link's target.
pub(crate) fn link_target(name: &[u8]) -> Result<CleanPath, Problem> {
    let path = CleanPath::clean(name);
    path.check().map(|()| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> CleanPath {
        CleanPath::clean(text.as_bytes())
    }

    #[test]
    fn names_stay_under_the_root() {
        for (name, cleaned) in [
            ("./usr//bin/", "usr/bin"),
            ("/etc/passwd", "etc/passwd"),
            ("../../etc/passwd", "etc/passwd"),
            ("a/../../b/./c", "b/c"),
            ("a/..", ""),
            ("...", "..."),
            ("./", ""),
        ] {
            let path = path(name);
            assert_eq!(path.as_bytes(), cleaned.as_bytes(), "{name}");
            let parts: Vec<&[u8]> = path.components().collect();
            assert_eq!(parts.join(&b'/'), cleaned.as_bytes(), "{name}");
            let split = path.split().map(|(parent, name)| CleanPath::join(parent, name));
            assert_eq!(split.unwrap_or_default(), path, "{name}");
        }
    }

    #[test]
    fn whiteouts_are_told_apart() {
        assert_eq!(meaning(b"a/.wh.b"), Ok(Meaning::Whiteout(path("a/b"))));
        assert_eq!(meaning(b"a/.wh..wh..opq"), Ok(Meaning::Opaque(path("a"))));
        assert_eq!(meaning(b".wh..wh..opq"), Ok(Meaning::Opaque(path(""))));
        assert_eq!(meaning(b".wh..hidden"), Ok(Meaning::Whiteout(path(".hidden"))));
        assert_eq!(meaning(b".wh..wh.plnk/12.34"), Ok(Meaning::AufsMeta));
        assert_eq!(meaning(b".wh..wh.aufs"), Ok(Meaning::AufsMeta));
        assert_eq!(meaning(b"a/.whale"), Ok(Meaning::File(path("a/.whale"))));
        for hostile in [&b".wh."[..], b"a/.wh..", b"a/.wh..."] {
            assert_eq!(meaning(hostile), Err(Problem::EmptyWhiteout));
        }
    }

    #[test]
    fn impossible_names_are_refused() {
        assert_eq!(meaning(b"a\0b"), Err(Problem::NulInName));
        let limit = [b'x'; 255];
        assert!(meaning(&limit).is_ok());
        let longer = [b'x'; 256];
        assert!(matches!(meaning(&longer), Err(Problem::TooLong { .. })));
        let path = |count| {
            [b'x'; 127]
                .repeat(count)
                .chunks(127)
                .collect::<Vec<_>>()
                .join(&b'/')
        };
        assert_eq!(path(32).len(), PATH_LEN_MAX);
        assert!(meaning(&path(32)).is_ok());
        let longer = [&path(32)[..], b"/x"].concat();
        assert!(matches!(meaning(&longer), Err(Problem::TooLong { .. })));
    }
}
