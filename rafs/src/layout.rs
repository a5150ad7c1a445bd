//! The structures as they lie on disk, little-endian, by offset.
