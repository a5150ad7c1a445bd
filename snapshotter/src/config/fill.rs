//! The value of the key about filling.

use serde::{Deserialize, Serialize};

use super::Size;

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
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "on", "Auto", "50MiB", "0MiB/s", "/s", "-1MiB/s", "fast/s"] {
            assert!(Fill::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
