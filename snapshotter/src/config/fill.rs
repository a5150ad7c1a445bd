//! Values of the keys about filling: sizes such as "5GiB", and rates.

use std::fmt;
use std::str::FromStr;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// A number of bytes, written "64MiB".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size =
            ByteSize::from_str(text).map_err(|_| format!("{text:?} is not a size such as \"64MiB\""))?;
        Ok(Self(size.as_u64()))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The largest unit that loses nothing.
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        let exact = units
            .iter()
            .find(|(shift, _)| self.0 > 0 && self.0.trailing_zeros() >= *shift);
        match exact {
            Some((shift, unit)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

/// Whether images in use become complete in the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Fill {
    /// As fast as the line allows.
    Auto,
    /// Not at all.
    Off,
    /// At so many bytes a second, all images together.
    Rate(Size),
}

impl TryFrom<String> for Fill {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let size = |text: &str| text.parse().ok().filter(|Size(bytes)| *bytes > 0);
        match (text.as_str(), text.strip_suffix("/s").and_then(size)) {
            ("auto", _) => Ok(Self::Auto),
            ("off", _) => Ok(Self::Off),
            (_, Some(rate)) => Ok(Self::Rate(rate)),
            _ => Err(format!(
                "{text:?} is neither \"auto\" nor \"off\" nor a rate such as \"50MiB/s\""
            )),
        }
    }
}

impl From<Fill> for String {
    fn from(fill: Fill) -> Self {
        match fill {
            Fill::Auto => "auto".to_owned(),
            Fill::Off => "off".to_owned(),
            Fill::Rate(rate) => format!("{rate}/s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_they_are_read() {
        for text in ["auto", "off", "50MiB/s", "1GiB/s", "1000B/s"] {
            let fill = Fill::try_from(text.to_owned()).unwrap();
            assert_eq!(String::from(fill), text);
        }
        assert_eq!(
            Fill::try_from("1.5MiB/s".to_owned()),
            Ok(Fill::Rate(Size(3 << 19)))
        );
        for text in ["0B", "5GiB", "1000B"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "on", "Auto", "50MiB", "0MiB/s", "/s", "-1MiB/s", "fast/s"] {
            assert!(Fill::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
