//! Bits by their names.

use rafs::layout;

const FLAGS: [(u64, &str); 12] = [
    (layout::FLAG_COMPRESS_NONE, "none"),
    (layout::FLAG_COMPRESS_LZ4, "lz4"),
    (layout::FLAG_DIGEST_BLAKE3, "blake3"),
    (layout::FLAG_DIGEST_SHA256, "sha256"),
    (layout::FLAG_EXPLICIT_UID_GID, "owners"),
    (layout::FLAG_HAS_XATTR, "xattrs"),
    (layout::FLAG_COMPRESS_GZIP, "gzip"),
    (layout::FLAG_COMPRESS_ZSTD, "zstd"),
    (layout::FLAG_INLINED_CHUNK_DIGEST, "inlined-chunk-digests"),
    (layout::FLAG_TARFS, "tarfs"),
    (layout::FLAG_ENCRYPTION_NONE, "not-encrypted"),
    (layout::FLAG_ENCRYPTION_AES, "encrypted"),
];

const FEATURES: [(u32, &str); 15] = [
    (layout::BLOB_ALIGNED, "aligned"),
    (layout::BLOB_INLINED_META, "inlined-bootstrap"),
    (layout::BLOB_CHUNK_INFO_V2, "chunk-info-v2"),
    (layout::BLOB_ZRAN, "zran"),
    (layout::BLOB_SEPARATE, "separate-chunk-infos"),
    (layout::BLOB_INLINED_CHUNK_DIGEST, "inlined-chunk-digests"),
    (layout::BLOB_TARFS, "tarfs"),
    (layout::BLOB_BATCH, "batch"),
    (layout::BLOB_ENCRYPTED, "encrypted"),
    (layout::BLOB_CHUNKDICT, "chunk-dict"),
    (layout::BLOB_PREFETCH_FILES, "prefetch-files"),
    (layout::BLOB_EXTERNAL, "external"),
    (layout::BLOB_TAR_HEADER, "tar-headers"),
    (layout::BLOB_TOC, "toc"),
    (layout::BLOB_CAP_TAR_TOC, "cap-tar-toc"),
];

/// Names of a superblock's flags.
pub(super) fn flags(flags: u64) -> Vec<String> {
    named(flags, &FLAGS)
}

/// Names of a blob's features.
pub(super) fn features(features: u32) -> Vec<String> {
    named(features.into(), &FEATURES.map(|(bit, name)| (bit.into(), name)))
}

/// The names of the bits that have one, in their order, then the others in hex.
fn named(bits: u64, names: &[(u64, &str)]) -> Vec<String> {
    let known = names.iter().filter(|(bit, _)| bits & bit != 0);
    let rest = names.iter().fold(bits, |rest, (bit, _)| rest & !bit);
    let rest = (rest != 0).then(|| format!("{rest:#x}"));
    known.map(|(_, name)| (*name).to_owned()).chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_bits_show() {
        assert_eq!(flags(0x88), ["sha256", "zstd"]);
        assert_eq!(
            features(0x1000_0081 | 0x8),
            ["aligned", "zran", "batch", "tar-headers"]
        );
        assert_eq!(features(0x0900_0001), ["aligned", "0x9000000"]);
    }
}
