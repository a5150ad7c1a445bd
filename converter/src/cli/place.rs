//! Arguments that name images and files, and opening them.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use converter::opened::{self, RafsImage, RafsParts};
use proto::image::{DEFAULT_HOST, ImageSource, Location, Login, Options, Platform};
use rafs::Image;

/// How to reach registries.
#[derive(Clone, Debug, Args)]
pub(crate) struct Access {
    /// Talk plain HTTP to registries instead of HTTPS.
    #[arg(long)]
    pub(crate) plain_http: bool,
    /// User and password for the registry [default: as docker, podman and skopeo keep them].
    #[arg(long, value_name = "USER[:PASSWORD]")]
    pub(crate) creds: Option<Login>,
}

/// Which image to read.
#[derive(Clone, Debug, Args)]
pub(crate) struct Which {
    /// Image of an index to take, as OS/ARCH[/VARIANT] [default: linux and this machine's processor].
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<Platform>,
    #[command(flatten)]
    pub(crate) access: Access,
}

/// An image or the bootstrap of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A bootstrap file.
    File(PathBuf),
    /// An image, by name.
    Image(Location),
}

impl Access {
    pub(crate) fn options(&self) -> Options {
        self.options_with(self.creds.as_ref())
    }

    /// The same with other credentials.
    pub(crate) fn options_with(&self, creds: Option<&Login>) -> Options {
        Options {
            plain_http: self.plain_http,
            credentials: creds.cloned().map(Into::into),
            ..Options::default()
        }
    }
}

impl Which {
    /// Opens a RAFS image.
    pub(crate) async fn open(&self, location: &Location) -> anyhow::Result<RafsImage> {
        Ok(self.fetch(location).await?.open()?)
    }

    /// Fetches the parts of a RAFS image, sound or not.
    pub(crate) async fn fetch(&self, location: &Location) -> anyhow::Result<RafsParts> {
        let source = open(location, &self.access.options()).await?;
        let parts = RafsParts::fetch(source, &location.to_string(), self.platform.as_ref()).await;
        parts.map_err(|error| explain(error.into(), location))
    }

    /// Opens the bootstrap of an image or file.
    pub(crate) async fn open_bootstrap(&self, subject: &Subject) -> anyhow::Result<Image<Bytes>> {
        match subject {
            Subject::File(path) => Ok(opened::open_file(path)?),
            Subject::Image(location) => Ok(self.open(location).await?.bootstrap),
        }
    }
}

/// Opens an image.
pub(crate) async fn open(location: &Location, options: &Options) -> anyhow::Result<ImageSource> {
    let source = ImageSource::open(location, options).await;
    source.map_err(|error| explain(error.into(), location))
}

/// A name without a transport is an image of a registry, even if there is a file of that name here.
#[derive(Debug, thiserror::Error)]
#[error("reading {location}")]
pub(crate) struct TakenForRegistry {
    location: Location,
    path: PathBuf,
}

impl TakenForRegistry {
    /// What the user may have meant.
    pub(crate) fn hint(&self) -> String {
        let path = self.path.display();
        match self.path.is_dir() {
            true => format!("for the layout in the folder {path} here write oci:{path}"),
            false => format!("for the archive {path} here write oci-archive:{path} or docker-archive:{path}"),
        }
    }
}

/// Adds to the failure of an image of a registry that there is a file of that name, if there is one.
pub(crate) fn explain(error: anyhow::Error, location: &Location) -> anyhow::Error {
    let Location::Docker(reference) = location else {
        return error;
    };
    let repository = &reference.repository;
    let path = match reference.host == DEFAULT_HOST {
        true => repository
            .strip_prefix("library/")
            .unwrap_or(repository)
            .to_owned(),
        false => format!("{}/{repository}", reference.host),
    };
    match Some(PathBuf::from(path)).filter(|path| path.exists()) {
        Some(path) => error.context(TakenForRegistry {
            location: location.clone(),
            path,
        }),
        None => error,
    }
}

impl std::str::FromStr for Subject {
    type Err = proto::image::Error;

    /// A file that is there is meant before a registry that may be.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match Path::new(text).is_file() {
            true => Ok(Subject::File(text.into())),
            false => text.parse().map(Subject::Image),
        }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Subject::File(path) => path.display().fmt(f),
            Subject::Image(location) => location.fmt(f),
        }
    }
}
