//! What long work tells while it runs. Bars, lines and silence are made of these by the caller.

/// Something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The image is known; so many bytes of layers will be read.
    Found {
        /// Distinct layers.
        layer_count: usize,
        /// Bytes, as stored in the source.
        len: u64,
    },
    /// A layer begins.
    LayerStarted {
        /// Position in the image, from 0.
        layer: usize,
        /// Its digest in the source.
        digest: &'a str,
        /// Bytes, as stored in the source.
        len: u64,
    },
    /// Bytes of a layer came in.
    LayerRead {
        /// Which.
        layer: usize,
        /// How many, since the last event.
        len: u64,
    },
    /// A layer's blob is written.
    LayerDone {
        /// Which.
        layer: usize,
        /// Bytes of the blob; 0 if the layer has no contents.
        blob_len: u64,
    },
    /// All layers are there; they are merged and the bootstrap is written.
    Merging,
    /// An image is unpacked; so many bytes of contents will come.
    Contents {
        /// Bytes, uncompressed.
        len: u64,
    },
    /// Contents came in.
    ContentsRead {
        /// Bytes since the last event, uncompressed.
        len: u64,
    },
    /// All contents are there.
    ContentsDone,
}

/// Takes events, from any thread, quickly.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn event(&self, event: Event<'_>);
}

/// Listens to nothing.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _event: Event<'_>) {}
}
