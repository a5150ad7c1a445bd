//! Hints: what of an image is worth fetching before anybody asks, and in what order.
//!
//! They lie beside the bootstrap in its layer, as `image/hints.json`, and are a superset of the ecosystem's lists of
//! files to prefetch, which load unchanged:
//!
//! ```
//! let text = br#"{"version":"v1","files":[{"path":"/usr/bin/tool","ranges":[[0,4096]]}]}"#;
//! let hints = rafs::hints::Hints::parse(text)?;
//! assert_eq!(hints.files[0].ranges, [0..4096]);
//! # Ok::<(), rafs::hints::HintsError>(())
//! ```
//!
//! Hints come from outside and may lie. Reading them is bounded, and nothing but speed may ever depend on them.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// The version that is read and written.
const VERSION: &str = "v1";
/// Bytes of the text: the longest list of paths and ranges of this size still says something worth the wait.
pub const TEXT_LEN_MAX: usize = 4 << 20;
/// Files and directories in one list; more is better said by naming directories.
pub const FILE_COUNT_MAX: usize = 1 << 16;
/// Ranges of all files together.
pub const RANGE_COUNT_MAX: usize = 1 << 18;
/// Linux names nothing by a longer path.
const PATH_LEN_MAX: usize = 4095;

/// A list of what to fetch ahead, most urgent first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// Files and directories in order.
    pub files: Vec<FileHint>,
}

/// A file or a whole directory to fetch ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileHint {
    /// Absolute path without `.`, `..` and doubled slashes; `/` is the whole image.
    pub path: String,
    /// What it is needed for, if that is known.
    pub class: Option<Class>,
    /// Bytes of the file, none of them empty, which may reach beyond its end. No range: the whole file.
    pub ranges: Vec<Range<u64>>,
}

/// What a file is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Read first to know what to read: headers, indexes, configuration.
    Meta,
    /// Programs, libraries, scripts.
    Exec,
    /// Weights of models, read from end to end.
    Weights,
    /// The rest.
    Bulk,
}

/// Why a text gives no hints.
#[derive(Debug, thiserror::Error)]
pub enum HintsError {
    /// Not the JSON of hints.
    #[error("not a list of hints")]
    Syntax(#[from] serde_json::Error),
    /// Of a version that this reader does not know.
    #[error("hints of version {version:?}; v1 is known")]
    Version {
        /// The version.
        version: String,
    },
    /// More than a reader takes.
    #[error("hints have more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// One file's hint makes no sense.
    #[error("hint {number}: {what}")]
    File {
        /// Position in the list, from 0.
        number: usize,
        /// What is wrong.
        what: &'static str,
    },
}

/// The text. Fields of later writers of this version are passed over.
#[derive(Serialize, Deserialize)]
struct Document {
    version: String,
    files: Vec<File>,
}

#[derive(Serialize, Deserialize)]
struct File {
    path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    class: Option<Class>,
    /// Offset and length.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ranges: Vec<[u64; 2]>,
}

impl Hints {
    /// Reads the text of hints, of this project or of the ecosystem's tools.
    pub fn parse(text: &[u8]) -> Result<Self, HintsError> {
        limit(text.len(), TEXT_LEN_MAX, "bytes")?;
        let document: Document = serde_json::from_slice(text)?;
        if document.version != VERSION {
            return Err(HintsError::Version {
                version: document.version.chars().take(16).collect(),
            });
        }
        limit(document.files.len(), FILE_COUNT_MAX, "files")?;
        let ranges = document.files.iter().map(|file| file.ranges.len());
        limit(ranges.sum(), RANGE_COUNT_MAX, "ranges")?;
        let files = (0..)
            .zip(document.files)
            .map(|(number, file)| FileHint::read(file).map_err(|what| HintsError::File { number, what }));
        Ok(Hints {
            files: files.collect::<Result<_, _>>()?,
        })
    }

    /// Writes the text that [`parse`](Self::parse) reads; the same hints give the same bytes.
    ///
    /// # Errors
    /// The hints are not such as `parse` gives.
    pub fn to_json(&self) -> Result<Vec<u8>, HintsError> {
        let files = self.files.iter().map(|hint| File {
            path: hint.path.clone(),
            class: hint.class,
            ranges: hint
                .ranges
                .iter()
                .map(|range| [range.start, range.end.saturating_sub(range.start)])
                .collect(),
        });
        let text = serde_json::to_vec(&Document {
            version: VERSION.to_owned(),
            files: files.collect(),
        })?;
        Self::parse(&text).map(|_| text)
    }
}

impl FileHint {
    fn read(file: File) -> Result<Self, &'static str> {
        if file.path.contains('\0') {
            return Err("the path has a NUL");
        }
        let mut path = String::with_capacity(file.path.len() + 1);
        for part in file.path.split('/').filter(|part| !matches!(*part, "" | ".")) {
            if part == ".." {
                return Err("the path climbs");
            }
            path.push('/');
            path.push_str(part);
        }
        if path.is_empty() {
            path.push('/');
        }
        // As it is kept, not as it was written: what was read can be written.
        if path.len() > PATH_LEN_MAX {
            return Err("the path is longer than 4095 bytes");
        }
        let ranges = file.ranges.into_iter().map(|[offset, len]| {
            let end = offset.checked_add(len).filter(|_| len > 0);
            end.map(|end| offset..end)
                .ok_or("a range is empty or ends beyond 2^64")
        });
        Ok(FileHint {
            path,
            class: file.class,
            ranges: ranges.collect::<Result<_, _>>()?,
        })
    }
}

fn limit(count: usize, limit: usize, what: &'static str) -> Result<(), HintsError> {
    match count > limit {
        true => Err(HintsError::TooMany { what, limit }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(text: &str) -> String {
        Hints::parse(text.as_bytes()).unwrap_err().to_string()
    }

    fn list(files: &str) -> String {
        format!(r#"{{"version":"v1","files":[{files}]}}"#)
    }

    #[test]
    fn lists_of_the_ecosystem_load_unchanged() {
        let text =
            list(r#"{"path":"/a","ranges":[[0,10],[4096,1]]},{"path":"b//./c","ranges":[]},{"path":"/"}"#);
        let hints = Hints::parse(text.as_bytes()).unwrap();
        let paths: Vec<_> = hints.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["/a", "/b/c", "/"]);
        assert_eq!(hints.files[0].ranges, [0..10, 4096..4097]);
        assert_eq!(hints.files[1].ranges, []);
        assert!(hints.files.iter().all(|file| file.class.is_none()));
    }

    #[test]
    fn what_a_later_writer_adds_is_passed_over() {
        let text = r#"{"version":"v1","made_by":"x","files":[{"path":"/a","class":"weights","pin":true}]}"#;
        let hints = Hints::parse(text.as_bytes()).unwrap();
        assert_eq!(hints.files[0].class, Some(Class::Weights));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_place() {
        assert_eq!(
            refusal(r#"{"version":"v2","files":[]}"#),
            "hints of version \"v2\"; v1 is known"
        );
        for (file, what) in [
            (r#"{"path":"/a/../b"}"#, "the path climbs"),
            (r#"{"path":"a\u0000"}"#, "has a NUL"),
            (r#"{"path":"/a","ranges":[[5,0]]}"#, "a range is empty"),
            (
                r#"{"path":"/a","ranges":[[1,18446744073709551615]]}"#,
                "beyond 2^64",
            ),
        ] {
            let error = refusal(&list(&format!(r#"{{"path":"/"}},{file}"#)));
            assert!(error.starts_with("hint 1: ") && error.contains(what), "{error}");
        }
        for text in [
            "",
            "[]",
            "{}",
            r#"{"version":"v1"}"#,
            &list(r#"{"path":"/a","class":"?"}"#),
        ] {
            assert_eq!(refusal(text), "not a list of hints", "{text}");
        }
        assert_eq!(refusal(&"[".repeat(100_000)), "not a list of hints");
    }

    #[test]
    fn sizes_are_bounded() {
        let file = r#"{"path":"/"},"#;
        let many = list(file.repeat(FILE_COUNT_MAX + 1).trim_end_matches(','));
        assert_eq!(refusal(&many), "hints have more than 65536 files");
        let ranges = "[0,1],".repeat(RANGE_COUNT_MAX + 1);
        let many = list(&format!(
            r#"{{"path":"/","ranges":[{}]}}"#,
            ranges.trim_end_matches(',')
        ));
        assert_eq!(refusal(&many), "hints have more than 262144 ranges");
        assert_eq!(
            refusal(&" ".repeat(TEXT_LEN_MAX + 1)),
            "hints have more than 4194304 bytes"
        );
    }

    #[test]
    fn the_longest_path_can_be_written_again() {
        let longest = "a".repeat(PATH_LEN_MAX - 1);
        let hints = Hints::parse(list(&format!(r#"{{"path":"{longest}"}}"#)).as_bytes()).unwrap();
        assert_eq!(Hints::parse(&hints.to_json().unwrap()).unwrap(), hints);
        let error = refusal(&list(&format!(r#"{{"path":"{longest}a"}}"#)));
        assert!(error.contains("4095 bytes"), "{error}");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            files in prop::collection::vec(
                ("(/[a-z\u{e9}\"]{1,5}){1,3}", 0..5_usize, prop::collection::vec((0..1_u64 << 40, 1..1_u64 << 40), 0..3)),
                0..5,
            )
        ) {
            let classes = [None, Some(Class::Meta), Some(Class::Exec), Some(Class::Weights), Some(Class::Bulk)];
            let files = files.into_iter().map(|(path, class, ranges)| FileHint {
                path,
                class: classes[class],
                ranges: ranges.into_iter().map(|(start, len)| start..start + len).collect(),
            });
            let hints = Hints { files: files.collect() };
            prop_assert_eq!(Hints::parse(&hints.to_json().unwrap()).unwrap(), hints);
        }
    }
}
