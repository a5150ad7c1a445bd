//! Generates the gRPC code of the features that are on. Needs `protoc` (Debian: protobuf-compiler).

#[cfg(any(feature = "containerd", feature = "control"))]
const ROOT: &str = "proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    #[cfg(feature = "containerd")]
    snapshots()?;
    #[cfg(feature = "control")]
    control()?;
    Ok(())
}

/// The server half only: messages (and clients) are containerd-client's.
#[cfg(feature = "containerd")]
fn snapshots() -> std::io::Result<()> {
    tonic_prost_build::configure()
        .build_client(false)
        .extern_path(
            ".containerd.services.snapshots.v1",
            "::containerd_client::services::v1::snapshots",
        )
        .extern_path(".containerd.types", "::containerd_client::types")
        .compile_protos(
            &["proto/github.com/containerd/containerd/api/services/snapshots/v1/snapshots.proto"],
            &[ROOT],
        )
}

#[cfg(feature = "control")]
fn control() -> std::io::Result<()> {
    tonic_prost_build::configure().compile_protos(&["proto/slipway/control/v1/control.proto"], &[ROOT])
}
