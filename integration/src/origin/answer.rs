//! One answer of the origin.

use std::io::{self, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::time::Duration;

use super::{Fault, Head, Shared};

/// Distance of the bytes that [`Fault::Flip`] spoils.
const FLIP_STEP: usize = 1000;
/// Bytes that [`Fault::Long`] sends too many.
const SURPLUS_LEN: u64 = 4096;
/// Path below which tokens are given out.
const TOKEN_PATH: &str = "/token";

/// Whether a request is for the blob, here or where an origin redirects to.
pub(super) fn is_blob(path: &str) -> bool {
    path.contains("/blobs/")
}

/// Answers a request. Returns whether the connection can go on.
pub(super) fn send(origin: &Shared, client: &TcpStream, head: &Head, fault: &Fault) -> io::Result<bool> {
    if head.path.starts_with(TOKEN_PATH) {
        return token(client, fault);
    }
    if !is_blob(&head.path) {
        return status(client, 200, &[]);
    }
    let whole = 0..origin.blob.len() as u64;
    let range = head.range.clone().unwrap_or(whole.clone());
    let body = &origin.blob[at(origin, range.start)..at(origin, range.end)];
    match fault {
        Fault::None => part(client, &range, whole.end, body),
        Fault::Late(time) => {
            std::thread::sleep(*time);
            part(client, &range, whole.end, body)
        }
        Fault::Status(code, headers) => status(client, *code, headers),
        Fault::Token(number) if head.authorization != Some(format!("Bearer {number}")) => {
            let realm = format!("Bearer realm=\"http://{}{TOKEN_PATH}\"", origin.address);
            status(client, 401, &[("WWW-Authenticate", realm)])
        }
        Fault::Token(_) => part(client, &range, whole.end, body),
        Fault::Silent => {
            origin.hold();
            Ok(false)
        }
        Fault::Stall(len) => {
            begin(client, &range, whole.end, body, *len)?;
            origin.hold();
            Ok(false)
        }
        Fault::Cut(len) => begin(client, &range, whole.end, body, *len).map(|()| false),
        Fault::Reset(len) => {
            begin(client, &range, whole.end, body, *len)?;
            rustix::net::sockopt::set_socket_linger(client, Some(Duration::ZERO))?;
            Ok(false)
        }
        Fault::Long => {
            let more = &origin.blob[..at(origin, SURPLUS_LEN)];
            let told = format!("Content-Range: {}\r\nConnection: close", told(&range, whole.end));
            head_of(client, 206, &told)?;
            write_all(client, &[body, more].concat()).map(|()| false)
        }
        Fault::Other => {
            let other = range.start + 1..range.end;
            part(client, &other, whole.end, &body[1..])
        }
        Fault::Whole => {
            head_of(client, 200, &format!("Content-Length: {}", whole.end))?;
            write_all(client, &origin.blob).map(|()| true)
        }
        Fault::Flip => {
            let mut spoilt = body.to_vec();
            for byte in spoilt.iter_mut().step_by(FLIP_STEP) {
                *byte ^= 0x10;
            }
            part(client, &range, whole.end, &spoilt)
        }
        Fault::Redirect(target) => status(client, 307, &[("Location", target.clone())]),
    }
}

fn at(origin: &Shared, offset: u64) -> usize {
    usize::try_from(offset).map_or(origin.blob.len(), |at| at.min(origin.blob.len()))
}

fn token(client: &TcpStream, fault: &Fault) -> io::Result<bool> {
    let number = match fault {
        Fault::Token(number) => *number,
        _ => 0,
    };
    let body = format!("{{\"token\": \"{number}\", \"expires_in\": 3600}}");
    head_of(client, 200, &format!("Content-Length: {}", body.len()))?;
    write_all(client, body.as_bytes()).map(|()| true)
}

fn status(client: &TcpStream, code: u16, headers: &[(&str, String)]) -> io::Result<bool> {
    let headers: String = (headers.iter())
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    head_of(client, code, &format!("{headers}Content-Length: 0")).map(|()| true)
}

/// A part as it should be.
fn part(client: &TcpStream, range: &Range<u64>, total: u64, body: &[u8]) -> io::Result<bool> {
    begin(client, range, total, body, body.len()).map(|()| true)
}

/// The first so many bytes of a part.
fn begin(client: &TcpStream, range: &Range<u64>, total: u64, body: &[u8], len: usize) -> io::Result<()> {
    let told = told(range, total);
    head_of(
        client,
        206,
        &format!("Content-Range: {told}\r\nContent-Length: {}", body.len()),
    )?;
    write_all(client, &body[..len.min(body.len())])
}

fn told(range: &Range<u64>, total: u64) -> String {
    format!("bytes {}-{}/{total}", range.start, range.end.saturating_sub(1))
}

fn head_of(client: &TcpStream, code: u16, headers: &str) -> io::Result<()> {
    write_all(
        client,
        format!("HTTP/1.1 {code} -\r\n{headers}\r\n\r\n").as_bytes(),
    )
}

fn write_all(mut client: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    client.write_all(bytes)
}
