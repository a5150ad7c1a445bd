//! `slipwayd keeper`: holds descriptors for daemons that come and go. It does nothing else, depends on nothing but the
//! system, and is never upgraded, so that nothing can make it end while containers need what it holds.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};

use super::wire::{self, COUNT_MAX, NAME_LEN_MAX};

/// How long a daemon may take to ask once it is connected.
const QUESTION_DEADLINE: Duration = Duration::from_secs(2);

/// How often the keeper looks whether it can still be found. Descriptors nobody can ask for would be held for ever.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Score that keeps the kernel from choosing this process when memory is short. It holds next to none.
const OOM_SCORE: &str = "-1000";

/// Serves `listener`, which listens on `path`, until told to end or the socket is gone.
pub(super) fn hold(listener: &OwnedFd, path: &Path) -> io::Result<()> {
    // Not permitted in some containers, and not needed for anything else.
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    std::env::set_current_dir("/")?;
    let Ok(place) = identity(path) else {
        return Ok(());
    };
    let mut held = BTreeMap::new();
    set_socket_timeout(listener, Timeout::Recv, Some(LOOK_AGAIN))?;
    loop {
        let socket = match rustix::net::accept_with(listener, SocketFlags::CLOEXEC) {
            Ok(socket) => socket,
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {
                match identity(path) {
                    Ok(now) if now == place => continue,
                    _ => return Ok(()),
                };
            }
            Err(error) => return Err(error.into()),
        };
        // Whoever asks nonsense or goes away has lost only its own question.
        if answer(&socket, path, &mut held).unwrap_or(false) {
            return Ok(());
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Answers one question. Returns whether it was the last.
fn answer(socket: &OwnedFd, path: &Path, held: &mut BTreeMap<Vec<u8>, OwnedFd>) -> io::Result<bool> {
    if socket_peercred(socket)?.uid != rustix::process::geteuid() {
        return Ok(false);
    }
    set_socket_timeout(socket, Timeout::Recv, Some(QUESTION_DEADLINE))?;
    let mut question = wire::receive(socket)?;
    if question.version != wire::VERSION {
        wire::send(socket, wire::OTHER_VERSION, b"", &[])?;
        return Ok(false);
    }
    let name = question.text;
    let is_name = !name.is_empty() && name.len() <= NAME_LEN_MAX && !name.contains(&b'\n');
    match (question.code, question.descriptors.pop()) {
        (wire::STORE, Some(descriptor))
            if is_name && (held.len() < COUNT_MAX || held.contains_key(&name)) =>
        {
            held.insert(name, descriptor);
        }
        (wire::TAKE, None) => {
            let names: Vec<u8> = held.keys().flat_map(|name| [name, &b"\n"[..]].concat()).collect();
            let descriptors: Vec<_> = held.values().map(AsFd::as_fd).collect();
            wire::send(socket, wire::DONE, &names, &descriptors)?;
            return Ok(false);
        }
        (wire::DROP, None) => drop(held.remove(&name)),
        (wire::END, None) => {
            held.clear();
            // First, so that the next daemon does not find a keeper that is about to be gone.
            fs::remove_file(path)?;
            // Who asked may be gone; the keeper is no longer needed all the same.
            let _ = wire::send(socket, wire::DONE, b"", &[]);
            return Ok(true);
        }
        _ => {
            wire::send(socket, wire::REFUSED, b"", &[])?;
            return Ok(false);
        }
    }
    wire::send(socket, wire::DONE, b"", &[])?;
    Ok(false)
}
