//! Sizes such as "5GiB", and limits that may also be a share such as "80%".

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

/// Most that something may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Limit {
    /// There is none.
    Off,
    /// So many bytes.
    Size(Size),
    /// So many hundredths of the file system.
    Percent(u8),
}

impl TryFrom<String> for Limit {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let percent = |text: &str| text.parse().ok().filter(|share| (1..=100).contains(share));
        match (text.as_str(), text.strip_suffix('%').map(percent)) {
            ("off", _) => Ok(Self::Off),
            (_, Some(Some(share))) => Ok(Self::Percent(share)),
            (_, None) if text.parse::<Size>().is_ok_and(|Size(len)| len > 0) => Ok(Self::Size(text.parse()?)),
            _ => Err(format!(
                "{text:?} is neither \"off\" nor a size such as \"64GiB\" nor a share such as \"80%\""
            )),
        }
    }
}

impl From<Limit> for String {
    fn from(limit: Limit) -> Self {
        match limit {
            Limit::Off => "off".to_owned(),
            Limit::Size(size) => size.to_string(),
            Limit::Percent(share) => format!("{share}%"),
        }
    }
}

impl From<Limit> for fuse::SizeMax {
    fn from(limit: Limit) -> Self {
        match limit {
            Limit::Off => Self::Unlimited,
            Limit::Size(Size(len)) => Self::Bytes(len),
            Limit::Percent(share) => Self::Percent(share),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_they_are_read() {
        for text in ["0B", "5GiB", "1000B"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        for text in ["off", "64GiB", "80%", "100%"] {
            assert_eq!(String::from(Limit::try_from(text.to_owned()).unwrap()), text);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "on", "0%", "101%", "-5%", "0B", "%", "5 %%", "1e3%"] {
            assert!(Limit::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
