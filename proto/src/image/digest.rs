//! Digests of bytes as they pass by.

use oci_spec::image::{Digest, DigestAlgorithm};
use sha2::{Digest as _, Sha256, Sha512};

use super::Error;

/// A hash being computed, of the algorithm that an expected digest names.
#[derive(Clone)]
pub(crate) enum Hasher {
    Sha256(Sha256),
    // Boxed: its state is twice the other's.
    Sha512(Box<Sha512>),
}

impl Hasher {
    /// A hasher for blobs whose digest is ours to choose.
    pub(crate) fn sha256() -> Self {
        Self::Sha256(Sha256::new())
    }

    /// A hasher that can confirm `expected`.
    pub(crate) fn for_digest(expected: &Digest) -> Result<Self, Error> {
        match expected.algorithm() {
            DigestAlgorithm::Sha256 => Ok(Self::sha256()),
            DigestAlgorithm::Sha512 => Ok(Self::Sha512(Box::new(Sha512::new()))),
            _ => Err(Error::invalid(
                format!("digest {expected}"),
                "only sha256 and sha512 can be checked",
            )),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Digest {
        let text = match self {
            Self::Sha256(hasher) => format!("sha256:{}", hex::encode(hasher.finalize())),
            Self::Sha512(hasher) => format!("sha512:{}", hex::encode(hasher.finalize())),
        };
        text.parse()
            .expect("an algorithm's name and its hash in hex are a digest")
    }
}

/// The sha256 digest of `bytes`.
pub(crate) fn sha256_of(bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::sha256();
    hasher.update(bytes);
    hasher.finish()
}

/// Fails unless `bytes` have the digest `expected`; `what` names them in the error.
pub(crate) fn check(what: &str, bytes: &[u8], expected: &Digest) -> Result<(), Error> {
    let mut hasher = Hasher::for_digest(expected)?;
    hasher.update(bytes);
    let actual = hasher.finish();
    match actual == *expected {
        true => Ok(()),
        false => Err(Error::DigestMismatch {
            what: what.to_owned(),
            expected: expected.clone(),
            actual,
        }),
    }
}
