//! Where an image lies, in skopeo's notation.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::{Error, Reference};

/// Where an image lies. `Display` prints what `FromStr` reads (when the path is UTF-8 without a colon).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// `docker://host/repo:tag`, also without the prefix.
    Docker(Reference),
    /// `oci:DIR[:TAG]`.
    OciDir {
        /// Folder with `oci-layout` and `index.json`.
        path: PathBuf,
        /// Name in `index.json`; may be left out when there is one image.
        tag: Option<String>,
    },
    /// `oci-archive:FILE[:TAG]`.
    OciArchive {
        /// Tar of a layout folder.
        path: PathBuf,
        /// Name in `index.json`.
        tag: Option<String>,
    },
    /// `docker-archive:FILE[:REFERENCE]`, as `docker save` writes; source only.
    DockerArchive {
        /// Tar with `manifest.json`.
        path: PathBuf,
        /// Which image, when there are several: a reference, or `@N` for the N-th from 0.
        tag: Option<String>,
    },
}

/// Transports of skopeo that are known, so that they are not taken for references.
const UNSUPPORTED: [&str; 6] = [
    "dir:",
    "docker-daemon:",
    "containers-storage:",
    "ostree:",
    "sif:",
    "tarball:",
];

impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |reason| Error::InvalidName {
            name: text.to_owned(),
            reason,
        };
        if let Some(rest) = text.strip_prefix("docker://") {
            return Ok(Self::Docker(rest.parse()?));
        }
        let split = |rest| split_path(rest).map_err(invalid);
        if let Some(rest) = text.strip_prefix("oci:") {
            let (path, tag) = split(rest)?;
            return Ok(Self::OciDir { path, tag });
        }
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            let (path, tag) = split(rest)?;
            return Ok(Self::OciArchive { path, tag });
        }
        if let Some(rest) = text.strip_prefix("docker-archive:") {
            let (path, tag) = split(rest)?;
            return Ok(Self::DockerArchive { path, tag });
        }
        if UNSUPPORTED.iter().any(|prefix| text.starts_with(prefix)) || text.contains("://") {
            return Err(invalid("use docker://, oci:, oci-archive: or docker-archive:"));
        }
        if text.starts_with(['/', '.']) {
            return Err(invalid(
                "this looks like a path; write oci:PATH for a layout folder, oci-archive:PATH for a file",
            ));
        }
        Ok(Self::Docker(text.parse()?))
    }
}

/// As skopeo does: the path ends at the first colon.
fn split_path(rest: &str) -> Result<(PathBuf, Option<String>), &'static str> {
    let (path, tag) = match rest.split_once(':') {
        Some((_, "")) => return Err("after the last colon a tag is missing"),
        Some((path, tag)) => (path, Some(tag.to_owned())),
        None => (rest, None),
    };
    match path {
        "" => Err("the path is missing"),
        _ => Ok((PathBuf::from(path), tag)),
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, path, tag) = match self {
            Self::Docker(reference) => return write!(formatter, "docker://{reference}"),
            Self::OciDir { path, tag } => ("oci", path, tag),
            Self::OciArchive { path, tag } => ("oci-archive", path, tag),
            Self::DockerArchive { path, tag } => ("docker-archive", path, tag),
        };
        write!(formatter, "{transport}:{}", path.display())?;
        match tag {
            Some(tag) => write!(formatter, ":{tag}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn transports_are_told_apart() {
        let cases = [
            ("docker://a.io/b:c", "docker://a.io/b:c"),
            ("python", "docker://docker.io/library/python:latest"),
            ("oci:dir", "oci:dir"),
            ("oci:/a/b:v1", "oci:/a/b:v1"),
            ("oci:d:host.io/name:tag", "oci:d:host.io/name:tag"),
            ("oci-archive:x.tar:t", "oci-archive:x.tar:t"),
            ("docker-archive:x.tar:python:3", "docker-archive:x.tar:python:3"),
            ("docker-archive:x.tar:@1", "docker-archive:x.tar:@1"),
        ];
        for (text, printed) in cases {
            let location: Location = text.parse().unwrap();
            assert_eq!(location.to_string(), printed);
            assert_eq!(printed.parse::<Location>().unwrap(), location);
        }
        let location: Location = "oci:d:host.io/name:tag".parse().unwrap();
        assert_eq!(
            location,
            Location::OciDir {
                path: "d".into(),
                tag: Some("host.io/name:tag".into())
            }
        );
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in [
            "",
            "oci:",
            "oci::t",
            "oci:d:",
            "dir:/x",
            "docker-daemon:a:b",
            "https://a.io/b",
            "./x",
            "/x",
            "docker://",
        ] {
            let error = text.parse::<Location>().expect_err(text);
            assert!(matches!(error, Error::InvalidName { .. }), "{error}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_what_parses_round_trips(text in "(docker://|oci:|oci-archive:|docker-archive:)?\\PC{0,40}") {
            if let Ok(location) = text.parse::<Location>() {
                prop_assert_eq!(location.to_string().parse::<Location>().unwrap(), location);
            }
        }
    }
}
