//! A registry that has one blob, in this process, and fails in every way a test asks for.

mod answer;

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;

/// Longest head of a request.
const HEAD_LEN_MAX: u64 = 64 << 10;

/// What goes wrong with an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It comes late.
    Late(Duration),
    /// It is a status and headers.
    Status(u16, Vec<(&'static str, String)>),
    /// It asks for a token, of which only those count that were given since this fault was set with this number.
    Token(u32),
    /// It never comes.
    Silent,
    /// Its body stops after so many bytes, and the connection stays open.
    Stall(usize),
    /// Its body ends after so many bytes, before its time.
    Cut(usize),
    /// The connection is reset after so many bytes of the body.
    Reset(usize),
    /// Its body is longer than the range.
    Long,
    /// It has another range than was asked for, and says so.
    Other,
    /// It has the whole blob instead of the range.
    Whole,
    /// A bit of every 1000th byte is flipped.
    Flip,
    /// It sends on to another place.
    Redirect(String),
}

/// A request for the blob, as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// The bytes that were asked for.
    pub range: Range<u64>,
    /// When.
    pub at: Instant,
}

/// The registry. Dropping it closes its port and all connections, and joins its threads.
pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    blob: Bytes,
    address: SocketAddr,
    state: Mutex<State>,
    ended: Condvar,
}

struct State {
    fault: Fault,
    /// How many answers it still spoils.
    left: usize,
    requests: Vec<Request>,
    connections: Vec<TcpStream>,
    is_over: bool,
}

/// What is of interest in the head of a request.
struct Head {
    path: String,
    range: Option<Range<u64>>,
    authorization: Option<String>,
}

impl Origin {
    /// Listens on a free port.
    pub fn start(blob: &Bytes) -> Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), blob)
    }

    /// Listens at an address.
    pub fn start_at(address: SocketAddr, blob: &Bytes) -> Result<Self> {
        let listener = TcpListener::bind(address).context("bind the origin's port")?;
        let address = listener.local_addr().context("ask for the origin's port")?;
        let shared = Arc::new(Shared {
            blob: blob.clone(),
            address,
            state: Mutex::new(State {
                fault: Fault::None,
                left: 0,
                requests: Vec::new(),
                connections: Vec::new(),
                is_over: false,
            }),
            ended: Condvar::new(),
        });
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.accept(&listener)
        });
        Ok(Origin {
            address,
            shared,
            acceptor: Some(acceptor),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Spoils every answer from now on.
    pub fn set(&self, fault: Fault) {
        self.set_first(usize::MAX, fault);
    }

    /// Spoils the next so many answers.
    pub fn set_first(&self, count: usize, fault: Fault) {
        let mut state = self.shared.lock();
        (state.fault, state.left) = (fault, count);
    }

    /// The requests for the blob since the last time this was asked.
    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.shared.lock().requests)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.is_over = true;
            for connection in state.connections.drain(..) {
                let _ = connection.shutdown(Shutdown::Both);
            }
        }
        self.shared.ended.notify_all();
        // The acceptor blocks in accept: one more connection lets it see that all is over.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(&self, listener: &TcpListener) {
        std::thread::scope(|scope| {
            for client in listener.incoming().flatten() {
                let mut state = self.lock();
                if state.is_over {
                    return;
                }
                state.connections.extend(client.try_clone());
                drop(state);
                scope.spawn(move || {
                    // Clients hang up whenever they like.
                    let _ = self.converse(&client);
                    let _ = client.shutdown(Shutdown::Both);
                });
            }
        });
    }

    /// Answers the requests of one connection, until an answer ends it.
    fn converse(&self, client: &TcpStream) -> std::io::Result<()> {
        client.set_nodelay(true)?;
        let mut reader = BufReader::new(client);
        while let Some(head) = read_head(&mut reader)? {
            let fault = self.fault_of(&head);
            if !answer::send(self, client, &head, &fault)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Notes a request for the blob, and says what goes wrong with it.
    fn fault_of(&self, head: &Head) -> Fault {
        let mut state = self.lock();
        if !answer::is_blob(&head.path) {
            return state.fault.clone();
        }
        state.requests.push(Request {
            range: head.range.clone().unwrap_or(0..self.blob.len() as u64),
            at: Instant::now(),
        });
        if state.left == 0 {
            return Fault::None;
        }
        state.left -= 1;
        state.fault.clone()
    }

    /// Waits for the end of the origin.
    fn hold(&self) {
        let state = self.lock();
        drop(self.ended.wait_while(state, |state| !state.is_over));
    }
}

/// Reads the head of a request. `None`: there is none any more, or it is no HTTP.
fn read_head(reader: &mut BufReader<&TcpStream>) -> std::io::Result<Option<Head>> {
    use std::io::Read;
    let mut head = Head {
        path: String::new(),
        range: None,
        authorization: None,
    };
    let mut left = HEAD_LEN_MAX;
    loop {
        let mut line = String::new();
        let len = reader.by_ref().take(left).read_line(&mut line)?;
        left -= len as u64;
        let line = line.trim_end();
        if len == 0 {
            return Ok(None);
        }
        if line.is_empty() {
            return Ok(Some(head));
        }
        if head.path.is_empty() {
            line.split(' ').nth(1).unwrap_or("/").clone_into(&mut head.path);
        } else if let Some((name, value)) = line.split_once(": ") {
            match name.to_ascii_lowercase().as_str() {
                "range" => head.range = parse_range(value),
                "authorization" => head.authorization = Some(value.to_owned()),
                _ => {}
            }
        }
    }
}

fn parse_range(value: &str) -> Option<Range<u64>> {
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    Some(first.parse().ok()?..last.parse::<u64>().ok()? + 1)
}
