//! The keeper's protocol: one packet each way over a connection of its own, with descriptors attached. Depends on
//! nothing but the system, as the keeper outlives many versions of the daemon.
//!
//! | byte | question | answer |
//! |---|---|---|
//! | 0 | [`VERSION`] | version of the keeper |
//! | 1 | `S`tore, `T`ake, `D`rop or `E`nd | 0: done, 1: another version is spoken here, 2: refused |
//! | rest | name | names, each ended by a line feed, in the order of the descriptors |

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{IoSlice, IoSliceMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Version of the protocol.
pub(crate) const VERSION: u8 = 1;

/// Keep a descriptor under a name; one that has the name is let go.
pub(super) const STORE: u8 = b'S';
/// Hand out copies of everything.
pub(super) const TAKE: u8 = b'T';
/// Let go what has a name.
pub(super) const DROP: u8 = b'D';
/// Let go of everything and end.
pub(super) const END: u8 = b'E';

/// Done.
pub(super) const DONE: u8 = 0;
/// The question's version is not the keeper's.
pub(super) const OTHER_VERSION: u8 = 1;
/// The question makes no sense, or there is no room.
pub(super) const REFUSED: u8 = 2;

/// Descriptors that are kept at most: the daemon has three, and a packet carries 253.
pub(super) const COUNT_MAX: usize = 16;
/// Longest name, in bytes: systemd allows 255.
pub(super) const NAME_LEN_MAX: usize = 200;
/// Longest packet: all names, each with its line feed, and two bytes.
const PACKET_LEN_MAX: usize = COUNT_MAX * (NAME_LEN_MAX + 1) + 2;

/// A packet as received.
pub(super) struct Packet {
    pub(super) version: u8,
    pub(super) code: u8,
    pub(super) text: Vec<u8>,
    pub(super) descriptors: Vec<OwnedFd>,
}

/// Sends a packet.
pub(super) fn send(
    socket: impl AsFd,
    code: u8,
    text: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    send_with_rights(socket, &[&[VERSION, code], text], descriptors)
}

/// Sends parts as one packet, with descriptors.
pub(super) fn send_with_rights(
    socket: impl AsFd,
    parts: &[&[u8]],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(COUNT_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let parts: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
    sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives a packet. One that was cut off or has no head is an error, as is the end of the other side.
pub(super) fn receive(socket: impl AsFd) -> io::Result<Packet> {
    let mut bytes = vec![0; PACKET_LEN_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(COUNT_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(socket, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptors = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    let is_cut = received
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
    match bytes.get(..received.bytes) {
        Some(&[version, code, ref text @ ..]) if !is_cut => Ok(Packet {
            version,
            code,
            text: text.to_vec(),
            descriptors,
        }),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
