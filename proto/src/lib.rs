//! Bytes on the wire: everything that crosses a process boundary, and nothing about what it means.
//!
//! | feature | room | holds |
//! |---|---|---|
//! | `containerd` | `snapshots` | the snapshots gRPC server, over containerd-client's message types |
//! | `control` | `control` | Slipway's own control gRPC, client and server |
//! | `registry` | `registry` | the OCI distribution protocol over HTTP: authentication, ranges, uploads |
//! | `registry` | `image` | OCI images wherever they lie: registry, layout folder, archive |
//! | `registry` | `store` | blobs beside registries: folders, web servers, object stores |
//! | `registry` | `lazy` | how a RAFS image is laid out as an OCI image: media types, annotations, bootstrap layer |
//!
//! No feature is on by default, so that a user of one needs the dependencies of that one only.

#![forbid(unsafe_code)]

#[cfg(feature = "control")]
pub mod control;
#[cfg(feature = "registry")]
pub mod image;
#[cfg(feature = "registry")]
pub mod lazy;
#[cfg(feature = "registry")]
pub mod registry;
#[cfg(feature = "containerd")]
pub mod snapshots;
#[cfg(feature = "registry")]
pub mod store;
