//! A bar for each layer, on a terminal.

use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use snapshotter::pull::{Layer, LayerState, Progress};

/// What is shown of a digest: enough to tell layers apart.
const SHORT_DIGEST_LEN: usize = 19;

/// Bars on stderr.
pub(super) struct Bars {
    all: MultiProgress,
    bars: Mutex<Vec<ProgressBar>>,
}

impl Bars {
    pub(super) fn new() -> Self {
        Self {
            all: MultiProgress::new(),
            bars: Mutex::default(),
        }
    }
}

impl Progress for Bars {
    fn begin(&self, layers: &[Layer]) {
        let style = ProgressStyle::with_template(
            "{prefix} {bar:24} {binary_bytes:>10}/{binary_total_bytes:10} {msg}",
        )
        .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = |layer: &Layer| {
            let bar = self
                .all
                .add(ProgressBar::new(layer.descriptor.size()).with_style(style.clone()));
            bar.set_prefix(
                layer
                    .descriptor
                    .digest()
                    .to_string()
                    .chars()
                    .take(SHORT_DIGEST_LEN)
                    .collect::<String>(),
            );
            bar.set_message("waiting");
            bar
        };
        let bars = layers.iter().map(bar).collect();
        *self.bars.lock().unwrap_or_else(PoisonError::into_inner) = bars;
    }

    fn layer(&self, index: usize, state: LayerState) {
        let bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(bar) = bars.get(index) else { return };
        match state {
            LayerState::Present => bar.abandon_with_message("there already"),
            LayerState::Remote => bar.abandon_with_message("stays in the registry"),
            LayerState::Downloading(len) => {
                bar.set_position(len);
                bar.set_message("downloading");
            }
            LayerState::Unpacking => bar.set_message("unpacking"),
            LayerState::Unpacked => bar.finish_with_message("unpacked"),
        }
    }
}
