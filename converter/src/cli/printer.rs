//! Where output goes: data to standard output, everything else to standard error.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;

/// How lines on standard error are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notes {
    /// For people.
    Text,
    /// One JSON object a line, for programs: all of them.
    Json,
}

/// The two streams and what is known of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    notes: Notes,
    is_terminal: bool,
}

/// Standard output takes no more.
#[derive(Debug, thiserror::Error)]
#[error("writing standard output")]
pub(crate) struct Output(#[source] pub(crate) io::Error);

impl Printer {
    pub(crate) fn new(notes: Notes) -> Self {
        Printer {
            notes,
            is_terminal: io::stderr().is_terminal(),
        }
    }

    /// Whether a person watches standard error.
    pub(crate) fn is_terminal(self) -> bool {
        self.is_terminal
    }

    /// Data: to standard output.
    pub(crate) fn data(self, text: &str) -> Result<(), Output> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(Output)
    }

    /// Data as JSON: to standard output, with a newline at the end.
    pub(crate) fn json(self, value: &impl Serialize) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(value)?;
        Ok(self.data(&format!("{text}\n"))?)
    }

    /// Anything else: to standard error.
    pub(crate) fn note(self, text: &str) {
        match self.notes {
            Notes::Text => self.line(text),
            Notes::Json => self.event(&json!({"event": "note", "text": text})),
        }
    }

    /// Why the command failed, and what to do next if that is known: to standard error.
    pub(crate) fn failure(self, text: &str, hint: Option<&str>) {
        match (self.notes, hint) {
            (Notes::Json, hint) => self.event(&json!({"event": "error", "text": text, "hint": hint})),
            (Notes::Text, None) => self.line(&format!("error: {text}")),
            (Notes::Text, Some(hint)) => self.line(&format!("error: {text}\nhint: {hint}")),
        }
    }

    /// A line for programs: to standard error.
    pub(crate) fn event(self, event: &Value) {
        self.line(&event.to_string());
    }

    /// That it cannot be written is no reason to stop.
    fn line(self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

/// Log lines become notes.
impl Write for Printer {
    /// Takes whole lines, as the log writes them.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.note(String::from_utf8_lossy(bytes).trim_end());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends log lines to standard error. `SLIPWAY_LOG` says more exactly which.
pub(crate) fn log(verbosity: u8, printer: Printer) {
    let level = match verbosity {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("SLIPWAY_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || printer)
        .with_ansi(printer.is_terminal && printer.notes == Notes::Text)
        .without_time()
        .with_target(false)
        .init();
}

/// `1 blob`, `2 blobs`.
pub(crate) fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// `1234567` as `1.2 MB`: for people, three digits.
pub(crate) fn bytes(len: u64) -> String {
    indicatif::DecimalBytes(len).to_string()
}
