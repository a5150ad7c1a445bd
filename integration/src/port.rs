//! Loopback ports for servers that cannot be asked which port they took.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

/// How long a connection to a loopback port may take before it counts as refused.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A loopback address that was free a moment ago. The kernel hands ephemeral ports out in a random order, so that
/// another process getting the same one in that moment is rare; whoever starts a server on it tries again with another.
pub fn free() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("bind a loopback port")?;
    listener.local_addr().context("ask for the port")
}

/// Whether somebody accepts connections there.
pub fn answers(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).is_ok()
}
