//! What a pull tells about itself.

use super::Layer;

/// Where a layer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerState {
    /// It was there before.
    Present,
    /// It stays in the registry.
    Remote,
    /// It is being downloaded: so many bytes have come.
    Downloading(u64),
    /// Containerd unpacks it.
    Unpacking,
    /// It is unpacked.
    Unpacked,
}

/// Hears how a pull goes on.
pub trait Progress: Send + Sync + 'static {
    /// The layers are known.
    fn begin(&self, layers: &[Layer]);
    /// A layer, by its place in the image, got on.
    fn layer(&self, index: usize, state: LayerState);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _layers: &[Layer]) {}
    fn layer(&self, _index: usize, _state: LayerState) {}
}
