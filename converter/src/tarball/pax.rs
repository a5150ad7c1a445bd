//! PAX extended headers: records by length, never by line, so that binary values survive.

use std::collections::BTreeMap;
use std::sync::Arc;

use rafs::Timestamp;

use super::TarError;
use super::sparse::Map;

const XATTR: &[u8] = b"SCHILY.xattr.";

/// Keys that describe one member and mean nothing in a global header.
const PER_MEMBER: [&[u8]; 4] = [b"path", b"linkpath", b"size", b"GNU.sparse."];

/// The records of one extended header, later ones over earlier ones, and those of global headers behind them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Records {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    globals: Globals,
    /// `GNU.sparse.offset` and `numbytes` repeat (version 0.0), so they are kept in order.
    sparse_pairs: Vec<Vec<u8>>,
}

/// The records that global headers set for all members after them. Shared, since members are many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Globals(Arc<BTreeMap<Vec<u8>, Vec<u8>>>);

impl Globals {
    /// Lays what a global header holds over what earlier ones did. Returns how many bytes are held now.
    pub(super) fn update(&mut self, header: Records) -> usize {
        let values = Arc::make_mut(&mut self.0);
        let lasting = |key: &[u8]| !PER_MEMBER.iter().any(|per_member| key.starts_with(per_member));
        values.extend(header.values.into_iter().filter(|(key, _)| lasting(key)));
        values.iter().map(|(key, value)| key.len() + value.len()).sum()
    }
}

/// What the records say of holes.
pub(super) enum Sparse {
    /// No holes.
    None,
    /// The map is in the records (versions 0.0 and 0.1).
    Map(Map),
    /// The map is at the start of the content (version 1.0); the file has this size.
    InContent {
        /// Size with holes, in bytes.
        size: u64,
    },
}

impl Records {
    pub(super) fn parse(mut data: &[u8], offset: u64) -> Result<Self, TarError> {
        let corrupt = || TarError::Corrupt {
            what: "extended header record is malformed",
            offset,
        };
        let mut records = Records::default();
        while !data.is_empty() {
            let space = data.iter().position(|byte| *byte == b' ').ok_or_else(corrupt)?;
            let len = decimal(&data[..space])
                .and_then(|len| usize::try_from(len).ok())
                .ok_or_else(corrupt)?;
            let record = data.get(space + 1..len).ok_or_else(corrupt)?;
            let record = record.strip_suffix(b"\n").ok_or_else(corrupt)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(corrupt)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            if key == b"GNU.sparse.offset" || key == b"GNU.sparse.numbytes" {
                records.sparse_pairs.push(value.to_vec());
            } else {
                records.values.insert(key.to_vec(), value.to_vec());
            }
            data = &data[len..];
        }
        Ok(records)
    }

    /// Puts the records of global headers behind these.
    pub(super) fn with(self, globals: &Globals) -> Self {
        Records {
            globals: globals.clone(),
            ..self
        }
    }

    /// A record's value. An empty value takes the record back, as POSIX says.
    fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.values
            .get(key)
            .or_else(|| self.globals.0.get(key))
            .map(Vec::as_slice)
            .filter(|value| !value.is_empty())
    }

    pub(super) fn path(&self) -> Option<Vec<u8>> {
        self.get(b"GNU.sparse.name")
            .or_else(|| self.get(b"path"))
            .map(<[u8]>::to_vec)
    }

    pub(super) fn link(&self) -> Option<Vec<u8>> {
        self.get(b"linkpath").map(<[u8]>::to_vec)
    }

    pub(super) fn size(&self, offset: u64) -> Result<Option<u64>, TarError> {
        self.number(b"size", "extended size is not a number", offset)
    }

    pub(super) fn uid(&self, offset: u64) -> Result<Option<u64>, TarError> {
        self.number(b"uid", "extended uid is not a number", offset)
    }

    pub(super) fn gid(&self, offset: u64) -> Result<Option<u64>, TarError> {
        self.number(b"gid", "extended gid is not a number", offset)
    }

    pub(super) fn mtime(&self, offset: u64) -> Result<Option<Timestamp>, TarError> {
        let what = "extended mtime is not a time";
        self.get(b"mtime")
            .map(|value| time(value).ok_or(TarError::Corrupt { what, offset }))
            .transpose()
    }

    /// Attributes, empty values included.
    pub(super) fn xattrs(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let named = |(key, value): (&Vec<u8>, &Vec<u8>)| {
            key.strip_prefix(XATTR)
                .filter(|name| !name.is_empty())
                .map(|name| (name.to_vec(), value.clone()))
        };
        let all = self.globals.0.iter().chain(&self.values);
        all.filter_map(named).collect()
    }

    pub(super) fn sparse(&self, offset: u64) -> Result<Sparse, TarError> {
        let what = "sparse record is not a number";
        let corrupt = || TarError::Corrupt { what, offset };
        let size = match self.number(b"GNU.sparse.realsize", what, offset)? {
            Some(size) => Some(size),
            None => self.number(b"GNU.sparse.size", what, offset)?,
        };
        let Some(size) = size else { return Ok(Sparse::None) };
        if self.get(b"GNU.sparse.major") == Some(b"1") {
            return Ok(Sparse::InContent { size });
        }
        let numbers = match self.get(b"GNU.sparse.map") {
            Some(map) => map
                .split(|byte| *byte == b',')
                .map(decimal)
                .collect::<Option<Vec<u64>>>(),
            None => self.sparse_pairs.iter().map(|value| decimal(value)).collect(),
        };
        Map::from_numbers(size, &numbers.ok_or_else(corrupt)?)
            .map(Sparse::Map)
            .ok_or_else(corrupt)
    }

    fn number(&self, key: &[u8], what: &'static str, offset: u64) -> Result<Option<u64>, TarError> {
        self.get(key)
            .map(|value| decimal(value).ok_or(TarError::Corrupt { what, offset }))
            .transpose()
    }
}

/// Appends one record, `LEN KEY=VALUE\n`, where LEN counts itself.
pub(crate) fn write_record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while rest + len.to_string().len() != len {
        len = rest + len.to_string().len();
    }
    out.extend_from_slice(len.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// `[-]SECONDS[.FRACTION]`. The fraction of a negative time goes further back, so it is borrowed from the second.
fn time(text: &[u8]) -> Option<Timestamp> {
    let (is_negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let whole = i64::try_from(decimal(parts.next()?)?).ok()?;
    // Finer than nanoseconds is cut, which for the digits means: the first nine, filled up with zeros.
    let fraction = parts.next().unwrap_or(b"");
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits: Vec<u8> = fraction
        .iter()
        .copied()
        .chain(std::iter::repeat(b'0'))
        .take(9)
        .collect();
    let nanos = u32::try_from(decimal(&digits)?).ok()?;
    match (is_negative, nanos) {
        (false, nanos) => Some(Timestamp { secs: whole, nanos }),
        (true, 0) => Some(Timestamp {
            secs: -whole,
            nanos: 0,
        }),
        (true, nanos) => Some(Timestamp {
            secs: (-whole).checked_sub(1)?,
            nanos: 1_000_000_000 - nanos,
        }),
    }
}
