//! What the kernel and a server agreed on when they met. The next server of the same connection goes on from it.

// Descriptors are put in the place of others.
#![allow(unsafe_code)]

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use fuser::{Config, InitFlags, Session, SessionACL};
use rustix::io::DupFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::adaptor::Adaptor;

/// A FUSE connection between two servers: the kernel waits, and this is all the next one needs to know of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Device number of the mount, major and minor: tells whether what is mounted somewhere is this connection.
    pub device: (u32, u32),
    /// Version of the protocol the kernel speaks, major and minor.
    pub protocol: (u32, u32),
    /// Features that were agreed on: `FUSE_*` bits of `FUSE_INIT` in `linux/fuse.h`, `flags2` in the upper half.
    pub flags: u64,
    /// Longest read-ahead the kernel offered, in bytes.
    pub max_readahead: u32,
}

/// `FUSE_INIT` in `linux/fuse.h`.
const OPCODE_INIT: u32 = 26;

/// Length of `struct fuse_in_header`, of `struct fuse_init_in`, and of the largest answer.
const HEADER_LEN: usize = 40;
const INIT_LEN: usize = 64;
const ANSWER_LEN_MAX: usize = 256;

/// `struct fuse_out_header` of the notification `FUSE_NOTIFY_RESEND` (code 7): length, code, no request's number.
const RESEND: [u8; 16] = {
    let mut bytes = [0; 16];
    bytes[0] = 16;
    bytes[4] = 7;
    bytes
};

/// Makes a session that goes on with a connection. The library insists on being greeted by a kernel, so the greeting
/// is played to it again over a socket, with what was agreed on then as all there is to agree on; then the connection
/// takes the place of the socket.
pub(super) fn resume(
    adaptor: Adaptor,
    device: BorrowedFd<'_>,
    connection: &Connection,
    config: Config,
) -> io::Result<Session<Adaptor>> {
    let (kernel, ours) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::io::write(&kernel, &greeting(connection))?;
    let session = Session::from_fd(adaptor, ours, SessionACL::All, config)?;
    rustix::io::read(&kernel, &mut [0; ANSWER_LEN_MAX])?;
    // SAFETY: the session is alive, and this is its descriptor.
    unsafe { replace(session.as_fd().as_raw_fd(), device)? };
    Ok(session)
}

/// Puts another file in the place of a session's: from then on it reads requests there and answers there.
///
/// # Safety
/// `place` must be the descriptor of a session that has not ended.
pub(super) unsafe fn replace(place: RawFd, by: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: it is open, since the session owns it. It is not closed here, as `ManuallyDrop` never drops, and the
    // session neither caches anything about the file nor minds which file it is.
    let mut place = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(place) });
    rustix::io::dup3(by, &mut place, DupFlags::CLOEXEC)?;
    Ok(())
}

/// Asks the kernel for the requests that an earlier server took and did not answer.
pub(super) fn resend(device: BorrowedFd<'_>) -> io::Result<()> {
    rustix::io::write(device, &RESEND)?;
    Ok(())
}

fn greeting(connection: &Connection) -> Vec<u8> {
    let flags = InitFlags::from_bits_retain(connection.flags) | InitFlags::FUSE_INIT_EXT;
    let words = [
        connection.protocol.0,
        connection.protocol.1,
        connection.max_readahead,
        // Cut in half on purpose: `flags` and `flags2`.
        flags.bits() as u32,
        (flags.bits() >> 32) as u32,
    ];
    let mut message = Vec::with_capacity(HEADER_LEN + INIT_LEN);
    let len = (HEADER_LEN + INIT_LEN) as u32;
    for word in [len, OPCODE_INIT, 1, 0] {
        message.extend(word.to_ne_bytes());
    }
    message.resize(HEADER_LEN, 0);
    for word in words {
        message.extend(word.to_ne_bytes());
    }
    message.resize(HEADER_LEN + INIT_LEN, 0);
    message
}
