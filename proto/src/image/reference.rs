//! Docker-style references and docker's defaults.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use oci_spec::image::Digest;

use super::Error;

/// The host that is meant when a reference names none.
pub const DEFAULT_HOST: &str = "docker.io";
/// The tag that is meant when a reference has neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";
/// Former name of [`DEFAULT_HOST`], still accepted.
const DEFAULT_HOST_ALIAS: &str = "index.docker.io";
/// Folder of images on [`DEFAULT_HOST`] whose repository has one component.
const OFFICIAL_PREFIX: &str = "library/";
/// The distribution specification's bound on host and repository together.
const NAME_LEN_MAX: usize = 255;
/// The distribution specification's bound on tags.
const TAG_LEN_MAX: usize = 128;

/// A docker-style reference: `host/repository[:tag][@digest]`, with docker's defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Host and optional port, such as `registry.example:5000`.
    pub host: String,
    /// Repository, such as `library/python`.
    pub repository: String,
    /// Tag; `latest` when neither tag nor digest was given.
    pub tag: Option<String>,
    /// Digest.
    pub digest: Option<Digest>,
}

impl Reference {
    /// What a registry is asked for: the digest when there is one, else the tag.
    pub fn tag_or_digest(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_ref(),
            (None, Some(tag)) => tag,
            (None, None) => DEFAULT_TAG,
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(formatter, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(formatter, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).map_err(|reason| Error::InvalidName {
            name: text.to_owned(),
            reason,
        })
    }
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(parse_digest(digest)?)),
        None => (text, None),
    };
    // A colon after the last slash starts the tag; one before it is a port.
    let path_start = name.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match name[path_start..].split_once(':') {
        Some((last, tag)) => (&name[..path_start + last.len()], Some(parse_tag(tag)?)),
        None => (name, None),
    };
    let (host, path) = split_host(name);
    let host = if host == DEFAULT_HOST_ALIAS {
        DEFAULT_HOST
    } else {
        host
    };
    check_host(host)?;
    let repository = match host == DEFAULT_HOST && !path.contains('/') {
        true => format!("{OFFICIAL_PREFIX}{path}"),
        false => path.to_owned(),
    };
    check_repository(path)?;
    if host.len() + 1 + repository.len() > NAME_LEN_MAX {
        return Err("host and repository are longer than 255 characters");
    }
    let tag = match (&tag, &digest) {
        (None, None) => Some(DEFAULT_TAG.to_owned()),
        _ => tag,
    };
    Ok(Reference {
        host: host.to_owned(),
        repository,
        tag,
        digest,
    })
}

/// Docker's rule: the first component is a host when it could not be a repository component, or is `localhost`.
fn split_host(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest)) if is_host(first) => (first, rest),
        _ => (DEFAULT_HOST, name),
    }
}

fn is_host(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.chars().any(|c| c.is_ascii_uppercase())
}

fn check_host(host: &str) -> Result<(), &'static str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest
                .split_once(']')
                .ok_or("the IPv6 address has no closing bracket")?;
            address
                .parse::<Ipv6Addr>()
                .map_err(|_| "the host is not an IPv6 address")?;
            let port = match after {
                "" => None,
                _ => Some(
                    after
                        .strip_prefix(':')
                        .ok_or("after the IPv6 address only a port may follow")?,
                ),
            };
            return check_port(port);
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if !name.split('.').all(is_label) {
        return Err("the host is not a valid domain name");
    }
    check_port(port)
}

fn check_port(port: Option<&str>) -> Result<(), &'static str> {
    let Some(port) = port else { return Ok(()) };
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(1..) if is_number => Ok(()),
        _ => Err("the port is not a number from 1 to 65535"),
    }
}

fn check_repository(path: &str) -> Result<(), &'static str> {
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("the repository must be lower case");
    }
    if path.len() == 64 && path.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("64 hex digits are an image id, not a repository");
    }
    match path.split('/').all(is_component) {
        true => Ok(()),
        false => Err("the repository must be letters and digits, separated by one of / . _ __ or dashes"),
    }
}

/// Runs of `[a-z0-9]` separated by one dot, one or two underscores, or any number of dashes.
fn is_component(component: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends_in_words =
        bytes.first().is_some_and(|&byte| is_word(byte)) && bytes.last().is_some_and(|&byte| is_word(byte));
    ends_in_words
        && component
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|separator| {
                matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
            })
}

fn parse_tag(tag: &str) -> Result<String, &'static str> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut bytes = tag.bytes();
    let valid =
        bytes.next().is_some_and(is_word) && bytes.all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'));
    match valid && tag.len() <= TAG_LEN_MAX {
        true => Ok(tag.to_owned()),
        false => Err("a tag is up to 128 letters, digits, _ . - and starts with none of . -"),
    }
}

fn parse_digest(digest: &str) -> Result<Digest, &'static str> {
    digest
        .parse()
        .map_err(|_| "the digest is not of the form sha256:<64 hex digits>")
}

#[cfg(test)]
mod tests;
