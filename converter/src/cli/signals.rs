//! Signals that end a command.

use std::io;

use futures::future::{FutureExt, select_all};
use tokio::signal::unix::{SignalKind, signal};

/// A signal that ended the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// As people know it.
    pub(crate) name: &'static str,
    /// As the kernel counts it.
    number: u8,
}

/// Ctrl-C; what service managers and `docker stop` send; a terminal that was closed.
const SIGNALS: [Ended; 3] = [
    Ended {
        name: "SIGINT",
        number: 2,
    },
    Ended {
        name: "SIGTERM",
        number: 15,
    },
    Ended {
        name: "SIGHUP",
        number: 1,
    },
];

impl Ended {
    /// The exit code that shells give to what a signal ended.
    pub(crate) fn exit_code(self) -> u8 {
        128 + self.number
    }
}

/// Waits for a signal that ends the command. One that was set to be ignored, as `nohup` does, stays ignored.
pub(crate) async fn ended() -> io::Result<Ended> {
    let ignored = ignored();
    let heeded = SIGNALS.iter().filter(|signal| ignored & signal.mask() == 0);
    let mut waits = heeded
        .map(|&ended| {
            let mut stream = signal(SignalKind::from_raw(ended.number.into()))?;
            Ok(async move { stream.recv().await.map(|()| ended) }.boxed())
        })
        .collect::<io::Result<Vec<_>>>()?;
    // Without any signal to heed there is nothing to wait for.
    waits.push(futures::future::pending().boxed());
    loop {
        let (ended, _, others) = select_all(waits).await;
        match ended {
            Some(ended) => return Ok(ended),
            None => waits = others,
        }
    }
}

impl Ended {
    fn mask(self) -> u64 {
        1 << (self.number - 1)
    }
}

/// The signals that this process was started to ignore, as a mask; none if the kernel does not tell.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    mask_of(&status).unwrap_or(0)
}

fn mask_of(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        let status = "Name:\tslipway\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0\n";
        let mask = mask_of(status).unwrap();
        let is_ignored: Vec<_> = SIGNALS.iter().map(|signal| mask & signal.mask() != 0).collect();
        assert_eq!(is_ignored, [false, false, true]);
        assert_eq!(mask_of("Name:\tslipway\n"), None);
    }
}
