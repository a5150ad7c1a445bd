//! Settings that flags or environment variables may replace. All environment variables are named here.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use snapshotter::config::{Config, LogFormat, LogLevel};
use tracing_subscriber::EnvFilter;

/// Flags of every command; the environment stands in for flags that are not given.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Settings")]
pub(super) struct Settings {
    /// Configuration file [default: /etc/slipway/config.toml, if there is one]
    #[arg(long, global = true, env = "SLIPWAY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of all lasting state
    #[arg(long, global = true, env = "SLIPWAY_ROOT", value_name = "DIR")]
    root: Option<PathBuf>,
    /// Folder of sockets and mounts
    #[arg(long, global = true, env = "SLIPWAY_RUN_DIR", value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Socket for containerd
    #[arg(long, global = true, env = "SLIPWAY_ADDRESS", value_name = "SOCKET")]
    address: Option<PathBuf>,
    /// Least severe level that is logged
    #[arg(long, global = true, env = "SLIPWAY_LOG_LEVEL", value_name = "LEVEL")]
    log_level: Option<LogLevel>,
    /// Shape of log lines
    #[arg(long, global = true, env = "SLIPWAY_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

impl Settings {
    /// The configuration: flag, else environment, else file, else default. Checked.
    pub(super) fn config(&self) -> anyhow::Result<Config> {
        let mut config = Config::load(self.config.as_deref())?;
        let replace = |value: &mut PathBuf, by: &Option<PathBuf>| {
            if let Some(by) = by {
                value.clone_from(by);
            }
        };
        replace(&mut config.root, &self.root);
        replace(&mut config.run_dir, &self.run_dir);
        config.address = self.address.clone().or(config.address);
        config.log.level = self.log_level.unwrap_or(config.log.level);
        config.log.format = self.log_format.unwrap_or(config.log.format);
        config.check()?;
        Ok(config)
    }
}

/// Starts logging to stderr. The level is that of our own code; libraries only warn.
pub(super) fn start_logging(config: &Config) -> anyhow::Result<()> {
    let level = config.log.level.as_str();
    let own = ["slipwayd", "snapshotter", "fuse", "proto", "rafs"].map(|target| format!("{target}={level}"));
    // Targets match as prefixes: without naming it, the library fuser would count as our fuse.
    let filter = EnvFilter::try_new(format!("warn,{},fuser=warn", own.join(",")))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let outcome = match config.log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    outcome
        .map_err(|error| anyhow::anyhow!(error))
        .context("cannot start logging")
}
