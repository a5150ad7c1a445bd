//! What the fuzz targets run: one function for each parser of outside bytes, which states what must hold whatever comes.
//!
//! A function returns when its parser answered with data or with an error, and panics when the answer breaks a promise.
//! `integration/fuzz` hands them what the fuzzer makes up; a test replays the kept inputs in every ordinary run.

mod blob;
mod bootstrap;
mod chunk;
mod hints;
mod layer;
mod oci;
mod policy;
mod seed;

pub use blob::{blob_meta, toc, zran};
pub use bootstrap::bootstrap;
pub use chunk::chunk;
pub use hints::hints;
pub use layer::{bootstrap_layer, layer};
pub use oci::{http_header, manifest, reference};
pub use policy::{config, filter, labels};

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Name of the program, of its source and of its corpus folder.
    pub name: &'static str,
    /// Runs one input; panics if a promise is broken.
    pub run: fn(&[u8]),
    /// Makes the inputs to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: [Target; 14] = [
    target("bootstrap", bootstrap, seed::bootstrap),
    target("blob_meta", blob_meta, seed::blob_meta),
    target("zran", zran, seed::zran),
    target("toc", toc, seed::toc),
    target("chunk", chunk, seed::chunk),
    target("layer", layer, seed::layer),
    target("bootstrap_layer", bootstrap_layer, seed::bootstrap_layer),
    target("hints", hints, seed::hints),
    target("manifest", manifest, seed::manifest),
    target("reference", reference, seed::reference),
    target("http_header", http_header, seed::http_header),
    target("filter", filter, seed::filter),
    target("labels", labels, seed::labels),
    target("config", config, seed::config),
];

const fn target(name: &'static str, run: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, run, seeds }
}

/// Takes the first bytes of an input; what is missing is zero.
fn take<const N: usize>(input: &mut &[u8]) -> [u8; N] {
    let (first, rest) = input.split_at(N.min(input.len()));
    *input = rest;
    let mut taken = [0; N];
    taken[..first.len()].copy_from_slice(first);
    taken
}
