//! Slipway's control service: what operators' commands ask a running daemon.
//!
//! Server: implement [`control_server::Control`]. Client: [`connect`].

use std::path::{Path, PathBuf};

use tonic::transport::Endpoint;

use self::control_client::ControlClient;

tonic::include_proto!("slipway.control.v1");

/// A client over a unix socket.
pub type Client = ControlClient<tonic::transport::Channel>;

/// Why the control socket could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The path cannot be put in an address.
    #[error("control socket path {0:?} is not UTF-8")]
    Path(PathBuf),
    /// Nobody listens there, or it may not be opened.
    #[error("cannot reach slipwayd at {path:?}; is it running, and may you open this socket?")]
    Transport {
        /// The socket.
        path: PathBuf,
        /// What the connection attempt said.
        source: tonic::transport::Error,
    },
}

/// Connects to the daemon that listens on the unix socket `path`.
///
/// # Errors
/// [`ConnectError::Transport`] when nobody accepts the connection.
pub async fn connect(path: &Path) -> Result<Client, ConnectError> {
    let text = path.to_str().ok_or_else(|| ConnectError::Path(path.to_owned()))?;
    let failed = |source| ConnectError::Transport {
        path: path.to_owned(),
        source,
    };
    let endpoint = Endpoint::from_shared(format!("unix:{text}")).map_err(failed)?;
    let channel = endpoint.connect().await.map_err(failed)?;
    Ok(ControlClient::new(channel))
}

#[cfg(test)]
mod tests;
