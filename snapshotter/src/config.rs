//! The configuration: one TOML file, unknown keys refused. Command line over environment over file over default.

mod fill;
mod key;
mod overlay;
mod registry;
mod size;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::store::StoreLocation;
use serde::{Deserialize, Serialize};

pub use fill::Fill;
pub use key::{reference_table, sample};
pub use overlay::{Overlay, UserXattr};
pub use registry::Registry;
pub use size::{Limit, Size};

/// Where the file lies unless the command line names another. It may be absent.
pub const DEFAULT_PATH: &str = "/etc/slipway/config.toml";

/// Containerd 1.6 reports disk use from exactly this path for a snapshotter named `slipway`.
pub const DEFAULT_ROOT: &str = "/var/lib/containerd/io.containerd.snapshotter.v1.slipway";

/// Sockets and mounts, gone after a reboot.
pub const DEFAULT_RUN_DIR: &str = "/run/slipway";

/// Highest sensible number of FUSE threads: beyond it they only wait for each other.
const THREADS_MAX: usize = 64;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read configuration {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("configuration {}: {source}; hint: `slipwayd config default` prints every key", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A value makes no sense.
    #[error("configuration key {key}: {reason}")]
    Value {
        /// Key with its section.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// All settings of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder of all lasting state.
    pub root: PathBuf,
    /// Folder of sockets and mounts.
    pub run_dir: PathBuf,
    /// Socket for containerd, if not in the run folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<PathBuf>,
    /// Which way images reach the kernel.
    pub data_path: DataPath,
    /// Overlayfs of containers.
    pub overlay: Overlay,
    /// Logging.
    pub log: Log,
    /// Serving.
    pub fuse: Fuse,
    /// What is fetched, and when.
    pub fetch: Fetch,
    /// What is kept on the disk.
    pub cache: Cache,
    /// Reaching registries.
    pub registry: Registry,
}

/// Which way images reach the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataPath {
    /// EROFS where it works, else FUSE.
    #[default]
    Auto,
    /// EROFS only.
    Erofs,
    /// FUSE only.
    Fuse,
}

impl From<DataPath> for fuse::DataPath {
    fn from(data_path: DataPath) -> Self {
        match data_path {
            DataPath::Auto => Self::Auto,
            DataPath::Erofs => Self::Erofs,
            DataPath::Fuse => Self::Fuse,
        }
    }
}

/// Logging.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Least severe level that is shown.
    pub level: LogLevel,
    /// Shape of a line.
    pub format: LogFormat,
}

/// Severity of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What needs an operator.
    Error,
    /// What may need one.
    Warn,
    /// Life of images and the daemon.
    #[default]
    Info,
    /// Every call.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Shape of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Serving.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fuse {
    /// Threads that answer the kernel.
    pub threads: usize,
    /// How long a read waits for its bytes before it fails.
    #[serde(with = "humantime_serde")]
    pub read_deadline: Duration,
}

impl Default for Fuse {
    fn default() -> Self {
        // Warm reads are answered on these threads; two saturate two cores, a few more hide each other's page cache
        // misses. The deadline outlasts a registry's restart but not a person's patience.
        Self {
            threads: 4,
            read_deadline: Duration::from_secs(30),
        }
    }
}

/// What is fetched, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fetch {
    /// Whether images in use become complete, and how fast.
    pub fill: Fill,
    /// Free space that filling leaves.
    pub fill_free_min: Size,
    /// Places that are asked for blobs before the registry.
    pub stores: Vec<String>,
}

impl Fetch {
    /// The places that are asked for blobs before the registry, read.
    pub fn stores(&self) -> Result<Vec<StoreLocation>, Error> {
        let parse = |text: &String| {
            text.parse().map_err(|error: proto::image::Error| Error::Value {
                key: "fetch.stores",
                reason: error.to_string(),
            })
        };
        self.stores.iter().map(parse).collect()
    }
}

impl Default for Fetch {
    fn default() -> Self {
        // Below that, other programs of a node begin to suffer, the kubelet among them.
        Self {
            fill: Fill::Auto,
            fill_free_min: Size(5 << 30),
            stores: Vec::new(),
        }
    }
}

/// What is kept on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// Most that the chunk cache takes.
    pub size_max: Limit,
    /// Free space that the chunk cache leaves.
    pub free_min: Size,
}

impl Default for Cache {
    fn default() -> Self {
        // Other things live on the disk, too. Less than filling leaves, so that filling ends before readers' data
        // has to go.
        Self {
            size_max: Limit::Percent(80),
            free_min: Size(2 << 30),
        }
    }
}

impl From<&Cache> for fuse::CacheLimits {
    fn from(cache: &Cache) -> Self {
        Self {
            size_max: cache.size_max.into(),
            free_min: cache.free_min.0,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            root: DEFAULT_ROOT.into(),
            run_dir: DEFAULT_RUN_DIR.into(),
            address: None,
            data_path: DataPath::default(),
            overlay: Overlay::default(),
            log: Log::default(),
            fuse: Fuse::default(),
            fetch: Fetch::default(),
            cache: Cache::default(),
            registry: Registry::default(),
        }
    }
}

impl Config {
    /// Reads the named file, or the default one, which may be absent. Values are not checked yet, since the command
    /// line may replace them.
    pub fn load(path: Option<&Path>) -> Result<Self, Error> {
        let (file, optional) = match path {
            Some(path) => (path, false),
            None => (Path::new(DEFAULT_PATH), true),
        };
        match std::fs::read_to_string(file) {
            Ok(text) => Self::parse(&text).map_err(|source| Error::Parse {
                path: file.to_owned(),
                source: Box::new(source),
            }),
            Err(error) if optional && error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(Error::Read {
                path: file.to_owned(),
                source,
            }),
        }
    }

    /// Reads a text.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// Checks values.
    pub fn check(&self) -> Result<(), Error> {
        let value = |key, reason: &str| {
            Err(Error::Value {
                key,
                reason: reason.to_owned(),
            })
        };
        for (key, path) in [("root", &self.root), ("run_dir", &self.run_dir)] {
            if !path.is_absolute() {
                return value(key, "it must be an absolute path");
            }
            // Both stand in overlayfs options, where these characters separate.
            if path
                .to_str()
                .is_none_or(|path| path.contains([':', ',', '\\', '"']))
            {
                return value(key, "it must be UTF-8 without colon, comma, backslash and quote");
            }
        }
        if !(1..=THREADS_MAX).contains(&self.fuse.threads) {
            return value("fuse.threads", &format!("it must be between 1 and {THREADS_MAX}"));
        }
        if self.fuse.read_deadline.is_zero() {
            return value("fuse.read_deadline", "it must be longer than nothing");
        }
        self.registry.check()?;
        self.fetch.stores()?;
        Ok(())
    }
}
