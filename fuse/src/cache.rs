//! Chunks on disk, with what is known of them.
