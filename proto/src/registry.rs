//! The OCI distribution protocol over HTTP: authentication, manifests, ranges, uploads.
//!
//! ```text
//! Repository  manifests, blobs, uploads of one repository
//!   -> download  a body that resumes where a connection broke        upload  POST, PATCH..., PUT
//!     -> mirrors   one request, to one host after the other     health  which host first
//!       -> client    one request: authorize, send, follow redirects, repeat, judge the answer
//!         -> host      address and connections    hosts  which hosts there are    network  what images share
//!         -> endpoint  which address a name stands for     auth  tokens     credentials  who we are
//! ```
//! Requests that may be repeated are repeated here a few times, within about a second. Waiting longer is the caller's
//! decision: errors tell by `is_retryable` and `retry_after`.

mod answer;
mod auth;
mod challenge;
mod client;
mod credentials;
mod download;
mod endpoint;
mod health;
mod host;
mod hosts;
mod mirrors;
mod network;
mod range;
mod redirect;
mod repository;
mod upload;

pub(crate) use self::answer::error as answer_error;
pub use self::challenge::{Challenge, parse as challenges};
pub(crate) use self::client::network as network_error;
pub use self::credentials::CredentialPlaces;
pub(crate) use self::endpoint::is_loopback;
pub(crate) use self::health::{Blame, Health, Ledger, blame};
pub use self::network::Network;
pub use self::range::ContentRange;
pub use self::repository::Repository;
pub(crate) use self::upload::Upload;

#[cfg(test)]
pub(crate) mod tests;
