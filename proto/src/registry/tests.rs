//! Against a real registry, and against one that misbehaves on purpose.

mod authorization;
mod faults;
mod mirrors;
mod proxy;
mod real;
mod redirects;
pub(crate) mod script;
mod tls;
mod uploads;

use bytes::Bytes;
use futures::TryStreamExt;
use oci_spec::image::{Descriptor, MediaType};

use crate::image::{ByteStream, Error, Options, digest};
use crate::registry::Repository;

/// Everything a stream gives.
pub(crate) async fn read(stream: Result<ByteStream, Error>) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    let mut stream = stream?;
    while let Some(bytes) = stream.try_next().await? {
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

/// Bytes without a short period, so that a wrong offset shows.
pub(crate) fn noise(len: usize) -> Bytes {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn descriptor_of(bytes: &[u8]) -> Descriptor {
    Descriptor::new(
        MediaType::ImageLayer,
        bytes.len() as u64,
        digest::sha256_of(bytes),
    )
}

fn repository(host: &str, credentials: Option<(&str, &str)>) -> Repository {
    let credentials = credentials.map(|(user, password)| (user.to_owned(), password.to_owned()));
    Repository::new(
        host,
        "team/app",
        &Options {
            plain_http: true,
            credentials,
            ..Options::default()
        },
    )
    .unwrap()
}
