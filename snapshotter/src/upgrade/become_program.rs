//! One program takes the place of another in the same process.

// Descriptors get the numbers that systemd's protocol has for them.
#![allow(unsafe_code)]

use std::ffi::OsString;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::keeper::Held;

/// Number of the first descriptor that systemd hands over (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;

/// Puts `program` in the place of this one or, if the system refuses that, `otherwise`, with `handed` as systemd hands
/// descriptors over. Whatever else is open is closed. To be called when nothing of the daemon is left to lose.
///
/// Returns only if both failed.
pub fn become_program(
    program: &Path,
    otherwise: &Path,
    arguments: &[OsString],
    handed: &[Held],
) -> io::Error {
    if let Err(error) = hand_over(handed) {
        return error;
    }
    let error = command(program, arguments, handed).exec();
    tracing::error!(program = %program.display(), %error, "not upgraded: starting again");
    command(otherwise, arguments, handed).exec()
}

fn command(program: &Path, arguments: &[OsString], handed: &[Held]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
        command.env_remove(name);
    }
    if !handed.is_empty() {
        let names: Vec<_> = handed.iter().map(|(name, _)| name.as_str()).collect();
        command
            .env("LISTEN_PID", std::process::id().to_string())
            .env("LISTEN_FDS", handed.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"));
    }
    command
}

/// Gives descriptors the numbers from [`FIRST`] on, open for the next program.
fn hand_over(handed: &[Held]) -> io::Result<()> {
    let places = FIRST..;
    let end = FIRST + i32::try_from(handed.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // First out of the way of each other.
    let aside: Vec<OwnedFd> = handed
        .iter()
        .map(|(_, descriptor)| rustix::io::fcntl_dupfd_cloexec(descriptor, end))
        .collect::<Result<_, _>>()?;
    for (descriptor, place) in aside.iter().zip(places) {
        // SAFETY: whatever has this number is closed by the new program's start in any case, nothing of the daemon that
        // could use it runs any more, and `ManuallyDrop` never closes it here.
        let mut place = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(place) });
        rustix::io::dup2(descriptor, &mut place)?;
    }
    Ok(())
}
