//! Progress: bars for people, lines for logs, JSON for programs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use converter::progress::{Event, Observer, Silent};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::printer::{Notes, Printer, bytes};

/// How to show progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Progress {
    /// Bars on a terminal, nothing otherwise.
    Auto,
    /// One line for each step.
    Plain,
    /// One JSON object for each step.
    Json,
    /// Nothing.
    None,
}

impl Progress {
    /// How everything else on the same stream is to be written.
    pub(crate) fn notes(self) -> Notes {
        match self {
            Progress::Json => Notes::Json,
            Progress::Auto | Progress::Plain | Progress::None => Notes::Text,
        }
    }

    pub(crate) fn observer(self, printer: Printer) -> Arc<dyn Observer> {
        match self {
            Progress::Auto if printer.is_terminal() => Arc::new(Bars::new()),
            Progress::Plain => Arc::new(Lines(printer)),
            Progress::Json => Arc::new(Json {
                printer,
                read: Mutex::default(),
            }),
            Progress::Auto | Progress::None => Arc::new(Silent),
        }
    }
}

/// A bar for each layer under way and one for all.
struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    layers: Mutex<Vec<Option<ProgressBar>>>,
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let total = all.add(ProgressBar::new(0));
        total.set_style(style(
            "{prefix:>14} {wide_bar} {decimal_bytes:>10}/{decimal_total_bytes:10} {decimal_bytes_per_sec:>12} {eta:>4}",
        ));
        total.set_prefix("reading");
        Bars {
            all,
            total,
            layers: Mutex::new(Vec::new()),
        }
    }

    fn layer(&self, layer: usize, change: impl FnOnce(&mut Option<ProgressBar>)) {
        // A thread that panicked while it held the lock left bars behind, nothing that matters.
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = layers.get_mut(layer) {
            change(bar);
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates in this file are valid")
}

impl Observer for Bars {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Found { layer_count, len } => {
                self.total.set_length(len);
                let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
                layers.resize_with(layer_count, || None);
            }
            Event::LayerStarted { layer, digest, len } => self.layer(layer, |bar| {
                let new = self.all.insert_before(&self.total, ProgressBar::new(len));
                new.set_style(style(
                    "{prefix:>14} {wide_bar} {decimal_bytes:>10}/{decimal_total_bytes:10}",
                ));
                new.set_prefix(short(digest).to_owned());
                *bar = Some(new);
            }),
            Event::LayerRead { layer, len } => {
                self.total.inc(len);
                self.layer(layer, |bar| bar.iter().for_each(|bar| bar.inc(len)));
            }
            Event::LayerDone { layer, .. } => self.layer(layer, |bar| {
                if let Some(bar) = bar.take() {
                    bar.finish_and_clear();
                }
            }),
            Event::Merging | Event::ContentsDone => self.total.finish_and_clear(),
            Event::Contents { len } => {
                self.total.set_prefix("unpacking");
                self.total.set_length(len);
            }
            Event::ContentsRead { len } => self.total.inc(len),
        }
    }
}

/// The first digits of a digest, enough to tell layers apart.
fn short(digest: &str) -> &str {
    let hex = digest.split_once(':').map_or(digest, |(_, hex)| hex);
    hex.get(..12).unwrap_or(hex)
}

struct Lines(Printer);

impl Observer for Lines {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Found { layer_count, len } => {
                self.0.note(&format!("{layer_count} layers, {}", bytes(len)))
            }
            Event::LayerStarted { layer, digest, len } => {
                self.0.note(&format!("layer {layer}: {digest}, {}", bytes(len)));
            }
            Event::LayerRead { .. } | Event::ContentsRead { .. } | Event::ContentsDone => {}
            Event::LayerDone { layer, blob_len } => {
                self.0.note(&format!("layer {layer}: done, {}", bytes(blob_len)))
            }
            Event::Merging => self.0.note("merging"),
            Event::Contents { len } => self.0.note(&format!("unpacking {}", bytes(len))),
        }
    }
}

/// Time between two lines about the same layer: programs want to see it move, not every packet.
const READ_INTERVAL: Duration = Duration::from_millis(500);

/// How far something is.
#[derive(Default)]
struct Read {
    len: u64,
    told: Option<Instant>,
}

struct Json {
    printer: Printer,
    /// Bytes read of each layer, or of all contents, and when that was last told.
    read: Mutex<HashMap<Option<usize>, Read>>,
}

impl Json {
    /// Counts, and says how many bytes were read so far if it is time to tell.
    fn count(&self, layer: Option<usize>, len: u64) -> Option<u64> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let read = read.entry(layer).or_default();
        read.len += len;
        let is_due = read.told.is_none_or(|told| told.elapsed() >= READ_INTERVAL);
        if is_due {
            read.told = Some(Instant::now());
        }
        is_due.then_some(read.len)
    }
}

impl Observer for Json {
    fn event(&self, event: Event<'_>) {
        let line = match event {
            Event::Found { layer_count, len } => {
                json!({"event": "found", "layer_count": layer_count, "len": len})
            }
            Event::LayerStarted { layer, digest, len } => {
                json!({"event": "layer_started", "layer": layer, "digest": digest, "len": len})
            }
            Event::LayerRead { layer, len } => match self.count(Some(layer), len) {
                Some(read_len) => json!({"event": "layer_read", "layer": layer, "read_len": read_len}),
                None => return,
            },
            Event::LayerDone { layer, blob_len } => {
                json!({"event": "layer_done", "layer": layer, "blob_len": blob_len})
            }
            Event::Merging => json!({"event": "merging"}),
            Event::Contents { len } => json!({"event": "contents", "len": len}),
            Event::ContentsRead { len } => match self.count(None, len) {
                Some(read_len) => json!({"event": "contents_read", "read_len": read_len}),
                None => return,
            },
            Event::ContentsDone => json!({"event": "contents_done"}),
        };
        self.printer.event(&line);
    }
}
