//! Patterns of paths: `*` and `?` within a component, `**` for any number of components.

use std::str::FromStr;

/// A pattern of absolute paths. Without wildcards it is a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(Vec<Vec<u8>>);

impl FromStr for Glob {
    type Err = &'static str;

    /// A leading slash may be left out; `/` alone is the root.
    ///
    /// # Errors
    /// When there is nothing: a variable that was not set would otherwise mean the whole image.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("the pattern is empty; / stands for the whole image");
        }
        let components = crate::name::components(text.as_bytes());
        Ok(Glob(components.map(<[u8]>::to_vec).collect()))
    }
}

impl std::fmt::Display for Glob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "/{}", self.0.join(&b'/').escape_ascii())
    }
}

impl Glob {
    /// Whether a path, as components from the root, is meant.
    pub(crate) fn matches(&self, path: &[&[u8]]) -> bool {
        matches_with(
            &self.0,
            path,
            |part| part == b"**",
            |part, name| {
                let part: Vec<u8> = part.clone();
                matches_with(
                    &part,
                    name,
                    |byte| *byte == b'*',
                    |byte, given| *byte == b'?' || byte == given,
                )
            },
        )
    }
}

/// Whether `items` are as `pattern` says, in which some parts stand for any number of items and the others for one.
///
/// When an item does not fit, the last such part takes one more: going back further could gain nothing, so the time is
/// at most the product of both lengths.
fn matches_with<P, T>(
    pattern: &[P],
    items: &[T],
    is_any: impl Fn(&P) -> bool,
    fits: impl Fn(&P, &T) -> bool,
) -> bool {
    let (mut at, mut item) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while item < items.len() {
        match pattern.get(at) {
            Some(part) if is_any(part) => {
                at += 1;
                back = Some((at, item));
            }
            Some(part) if fits(part, &items[item]) => {
                at += 1;
                item += 1;
            }
            _ => match &mut back {
                Some((after, taken)) => {
                    *taken += 1;
                    (at, item) = (*after, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(is_any)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(glob: &str, path: &str) -> bool {
        let parts: Vec<&[u8]> = crate::name::components(path.as_bytes()).collect();
        glob.parse::<Glob>().unwrap().matches(&parts)
    }

    #[test]
    fn wildcards() {
        for (glob, path, expected) in [
            ("/usr/bin/tool", "usr/bin/tool", true),
            ("usr/bin", "usr/bin/tool", false),
            ("/", "", true),
            ("/", "usr", false),
            ("/usr/*/t?ol", "usr/bin/tool", true),
            ("/usr/*", "usr/bin/tool", false),
            ("/usr/lib*.so", "usr/libc.so", true),
            ("/usr/lib*.so*", "usr/libc.so.6", true),
            ("**/*.py", "usr/lib/python3/os.py", true),
            ("**/*.py", "os.py", true),
            ("/usr/**/x", "usr/x", true),
            ("/usr/**/x", "usr/a/b/x", true),
            ("/usr/**/x", "opt/a/x", false),
            ("/a/**", "a", true),
            ("/?", "\u{e9}", false),
        ] {
            assert_eq!(matches(glob, path), expected, "{glob} {path}");
        }
    }

    #[test]
    fn nothing_is_no_pattern() {
        assert!("".parse::<Glob>().is_err());
    }

    #[test]
    fn hostile_patterns_take_no_time() {
        let path = "a".repeat(255);
        assert!(!matches(
            &"*a".repeat(100).replace("aa", "a"),
            &format!("{path}b")
        ));
        assert!(!matches(
            &"**/a/".repeat(100),
            &format!("{}/b", ["a"; 1000].join("/"))
        ));
    }
}
