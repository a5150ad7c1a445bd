//! Containerd's filter language, as `List` receives it: `labels."a/b"==c,kind!=active`.
//!
//! A [`Filters`] is a list of filters of which one must match; a filter is a list of selectors that must all
//! match. Grammar and meaning are containerd's (`pkg/filters`), so that every client gets what it expects:
//!
//! ```text
//! selectors := selector ("," selector)*
//! selector  := fieldpath [("==" | "!=" | "~=") value]
//! fieldpath := field ("." field)*
//! field     := quoted | [A-Za-z0-9_-]+
//! value     := quoted | [^\s,]+          after ~= also /quoted/ and |quoted|
//! ```

mod parse;
mod quote;
mod scan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use regex::Regex;

use crate::store::Kind;

/// A filter that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid filter {input:?} at byte {position}: {reason}")]
pub struct Error {
    /// The filter as it came.
    pub input: String,
    /// Byte offset of the trouble.
    pub position: usize,
    /// What is wrong there.
    pub reason: String,
}

/// What a filter looks at: the public face of one snapshot.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Backend name.
    pub name: &'a str,
    /// Parent's name, empty for a base layer.
    pub parent: &'a str,
    /// Kind.
    pub kind: Kind,
    /// Stored labels.
    pub labels: &'a BTreeMap<String, String>,
}

impl Subject<'_> {
    /// Value of a field, `None` when it is absent. Name, parent and kind are always present.
    fn field(&self, path: &[String]) -> Option<&str> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "name" => Some(self.name),
            "parent" => Some(self.parent),
            "kind" => Some(self.kind.as_str()),
            "labels" => self.labels.get(&rest.join(".")).map(String::as_str),
            _ => None,
        }
    }
}

/// What a selector asks of its field.
#[derive(Debug, Clone)]
enum Test {
    Present,
    Equal(String),
    NotEqual(String),
    Matches(Regex),
}

#[derive(Debug, Clone)]
struct Selector {
    path: Vec<String>,
    test: Test,
}

impl Selector {
    fn matches(&self, subject: &Subject<'_>) -> bool {
        let value = subject.field(&self.path);
        match &self.test {
            Test::Present => value.is_some(),
            Test::Equal(wanted) => value == Some(wanted.as_str()),
            Test::NotEqual(unwanted) => value != Some(unwanted.as_str()),
            Test::Matches(regex) => regex.is_match(value.unwrap_or("")),
        }
    }
}

/// Filters of one `List`: any of them may match; none at all match everything.
#[derive(Debug, Clone, Default)]
pub struct Filters(Vec<Vec<Selector>>);

impl Filters {
    /// Reads the filters of a request.
    pub fn parse<S: AsRef<str>>(inputs: &[S]) -> Result<Self, Error> {
        inputs
            .iter()
            .map(|input| parse::selectors(input.as_ref()))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether the snapshot is wanted.
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        self.0.is_empty()
            || self
                .0
                .iter()
                .any(|all| all.iter().all(|selector| selector.matches(subject)))
    }
}
