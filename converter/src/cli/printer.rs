//! Where output goes: data to standard output, everything else to standard error.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use tracing_subscriber::EnvFilter;

/// The two streams and what is known of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    is_terminal: bool,
}

impl Printer {
    pub(crate) fn new() -> Self {
        Printer {
            is_terminal: io::stderr().is_terminal(),
        }
    }

    /// Whether a person watches standard error.
    pub(crate) fn is_terminal(self) -> bool {
        self.is_terminal
    }

    /// Data: to standard output.
    pub(crate) fn data(self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Data as JSON: to standard output, with a newline at the end.
    pub(crate) fn json(self, value: &impl Serialize) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(value)?;
        Ok(self.data(&format!("{text}\n"))?)
    }

    /// Anything else: to standard error. That it cannot be written is no reason to stop.
    pub(crate) fn note(self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

/// Sends log lines to standard error. `SLIPWAY_LOG` says more exactly which.
pub(crate) fn log(verbosity: u8) {
    let level = match verbosity {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("SLIPWAY_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .without_time()
        .with_target(false)
        .init();
}

/// `1234567` as `1.2 MB`: for people, three digits.
pub(crate) fn bytes(len: u64) -> String {
    indicatif::DecimalBytes(len).to_string()
}
