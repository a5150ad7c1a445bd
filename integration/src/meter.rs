//! A counting TCP relay: what really went over the wire, whatever the daemons say.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

/// Bytes relayed at once.
const BUFFER_LEN: usize = 64 * 1024;
/// How often a blocked relay looks whether the meter is gone.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A relay in front of one server. Dropping it closes all connections and joins its threads.
pub struct Meter {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    server: SocketAddr,
    received: AtomicU64,
    /// Milliseconds that each request waits.
    delay: AtomicU64,
    is_over: AtomicBool,
}

impl Meter {
    /// Starts to relay to `server`.
    pub fn start(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("bind the meter's port")?;
        let address = listener.local_addr().context("ask for the meter's port")?;
        let shared = Arc::new(Shared {
            server,
            received: AtomicU64::new(0),
            delay: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        });
        let acceptor = std::thread::spawn({
            let shared = shared.clone();
            move || accept(&listener, &shared)
        });
        Ok(Meter {
            address,
            shared,
            acceptor: Some(acceptor),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// An image name in the registry behind it.
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// Lets every request from now on wait for so many milliseconds, as a distant server would.
    pub fn delay(&self, milliseconds: u64) {
        self.shared.delay.store(milliseconds, Ordering::Relaxed);
    }

    /// Bytes sent by the server to its clients so far, headers included.
    pub fn received(&self) -> u64 {
        self.shared.received.load(Ordering::Relaxed)
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        // The acceptor blocks in accept: one more connection lets it see that all is over.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    std::thread::scope(|scope| {
        for client in listener.incoming().flatten() {
            if shared.is_over.load(Ordering::Relaxed) {
                return;
            }
            scope.spawn(move || connect(&client, shared));
        }
    });
}

/// Relays one connection both ways. A server that does not answer looks to the client like one that hangs up.
fn connect(client: &TcpStream, shared: &Shared) {
    let Ok(server) = TcpStream::connect(shared.server) else {
        return;
    };
    std::thread::scope(|scope| {
        scope.spawn(|| relay(client, &server, shared, None));
        relay(&server, client, shared, Some(&shared.received));
    });
}

fn relay(mut from: &TcpStream, mut to: &TcpStream, shared: &Shared, count: Option<&AtomicU64>) {
    let mut buffer = vec![0; BUFFER_LEN];
    let _ = from.set_read_timeout(Some(LOOK_EVERY));
    let _ = to.set_nodelay(true);
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => {
                match count {
                    Some(count) => drop(count.fetch_add(len as u64, Ordering::Relaxed)),
                    None => std::thread::sleep(Duration::from_millis(shared.delay.load(Ordering::Relaxed))),
                }
                if to.write_all(&buffer[..len]).is_err() {
                    break;
                }
            }
            Err(error) if is_timeout(&error) && !shared.is_over.load(Ordering::Relaxed) => {}
            Err(_) => break,
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}

fn is_timeout(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_the_server_sends_and_relays_it_whole() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = server.local_addr().unwrap();
        let serving = std::thread::spawn(move || {
            let (mut connection, _) = server.accept().unwrap();
            let mut question = [0; 4];
            connection.read_exact(&mut question).unwrap();
            assert_eq!(&question, b"ping");
            connection.write_all(&[7; 100_000]).unwrap();
        });
        let meter = Meter::start(address).unwrap();
        let mut client = TcpStream::connect(meter.address()).unwrap();
        client.write_all(b"ping").unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        serving.join().unwrap();
        assert_eq!(answer, vec![7; 100_000]);
        assert_eq!(meter.received(), 100_000);
    }

    #[test]
    fn dropping_it_ends_open_connections() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let meter = Meter::start(server.local_addr().unwrap()).unwrap();
        let mut client = TcpStream::connect(meter.address()).unwrap();
        let (_held, _) = server.accept().unwrap();
        drop(meter);
        assert_eq!(client.read(&mut [0; 1]).unwrap_or(0), 0);
    }
}
