//! What registries say: manifests, indexes, names of images, headers of answers.

use oci_spec::image::{Arch, ImageConfiguration, ImageManifest, Platform};
use proto::image::{Location, Reference};
use proto::lazy::{LAYER_COUNT_MAX, LazyManifest, Prefer, choose};
use proto::registry::{ContentRange, challenges};

/// Reads a document as a manifest, as an index and as a config.
///
/// The parts of a lazy manifest are among its layers; what is chosen from an index stands in it.
pub fn manifest(input: &[u8]) {
    if let Ok(manifest) = serde_json::from_slice::<ImageManifest>(input)
        && let Some(lazy) = LazyManifest::parse(&manifest)
    {
        let layers = manifest.layers();
        assert!(layers.len() <= LAYER_COUNT_MAX);
        assert!(layers.contains(&lazy.bootstrap));
        assert!(lazy.blobs.iter().all(|blob| layers.contains(blob)));
    }
    let mut platform = Platform::default();
    platform.set_os("linux".into()).set_architecture(Arch::Amd64);
    for prefer in [Prefer::Rafs, Prefer::Plain] {
        if let Ok(chosen) = choose(input, &platform, prefer) {
            let digest = chosen.digest().digest().as_bytes();
            // Digests are written as they are, unless somebody escapes what needs none. What is not asked for need not
            // even be UTF-8.
            assert!(input.contains(&b'\\') || input.windows(digest.len()).any(|part| part == digest));
        }
    }
    let _ = serde_json::from_slice::<ImageConfiguration>(input);
}

/// Reads the name of an image and the name of a place.
///
/// What is accepted is printed as something that means the same.
pub fn reference(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string().parse::<Reference>().ok(), Some(reference));
    }
    if let Ok(location) = text.parse::<Location>() {
        assert_eq!(location.to_string().parse::<Location>().ok(), Some(location));
    }
}

/// Reads the challenges of `WWW-Authenticate`, and a `Content-Range`.
///
/// Schemes and names come in lower case; a range is never empty and ends within the whole.
pub fn http_header(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    for challenge in challenges(text) {
        assert!(!challenge.scheme.is_empty() && !challenge.scheme.contains(|c: char| c.is_ascii_uppercase()));
    }
    if let Some(found) = ContentRange::parse(text) {
        assert!(found.range.start < found.range.end);
        assert!(found.total.is_none_or(|total| found.range.end <= total));
    }
}
