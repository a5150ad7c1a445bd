//! What the session asks of the kernel when they meet, and what both agree on.

use std::io;

use fuser::{InitFlags, KernelConfig};

use super::connection::Connection;

/// Longest read the kernel sends, in bytes; 1 MiB is 1.35 times as fast as 128 KiB, more gains nothing.
const REQUEST_MAX: u32 = 1 << 20;

/// Read-ahead requests the kernel keeps in the air, over all images. The default of 16 lets one image whose registry
/// hangs hold up the read-ahead of all others.
const BACKGROUND_MAX: u16 = 1024;

/// What is nice to have of the kernel: fewer round trips, parallel requests, and no request lost with a server.
const WANTED: InitFlags = InitFlags::FUSE_DO_READDIRPLUS
    .union(InitFlags::FUSE_READDIRPLUS_AUTO)
    .union(InitFlags::FUSE_PARALLEL_DIROPS)
    .union(InitFlags::FUSE_CACHE_SYMLINKS)
    .union(InitFlags::FUSE_ASYNC_DIO)
    // Listings of `images` are cached like all others; with this the kernel looks at its time before it uses one.
    .union(InitFlags::FUSE_AUTO_INVAL_DATA)
    .union(InitFlags::FUSE_NO_OPEN_SUPPORT)
    .union(InitFlags::FUSE_HAS_RESEND);

/// All that may have been agreed on, with what the library asks for by itself. A server that goes on with a connection
/// must know whatever its predecessors agreed on.
pub(super) const KNOWN: InitFlags = WANTED
    .union(InitFlags::FUSE_NO_OPENDIR_SUPPORT)
    .union(InitFlags::FUSE_ALLOW_IDMAP)
    .union(InitFlags::FUSE_ASYNC_READ)
    .union(InitFlags::FUSE_BIG_WRITES)
    .union(InitFlags::FUSE_MAX_PAGES);

/// The part of a [`Connection`] that `FUSE_INIT` settles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Agreed {
    protocol: (u32, u32),
    flags: InitFlags,
    max_readahead: u32,
}

/// Answers the kernel's greeting.
pub(super) fn agree(config: &mut KernelConfig) -> io::Result<Agreed> {
    let offered = config.capabilities();
    let mut flags = offered & WANTED;
    // Useless without the other.
    if flags.contains(InitFlags::FUSE_NO_OPEN_SUPPORT) {
        flags |= offered & InitFlags::FUSE_NO_OPENDIR_SUPPORT;
    }
    // The kernel takes this only of mounts whose permissions it checks itself, which those of root are; without it (before
    // 6.12) their ids cannot be mapped for containers in user namespaces.
    if rustix::process::geteuid().is_root() {
        flags |= offered & InitFlags::FUSE_ALLOW_IDMAP;
    }
    // What is not offered costs more round trips, nothing else.
    config
        .add_capabilities(flags)
        .map_err(|_| io::ErrorKind::Unsupported)?;
    config
        .set_max_write(REQUEST_MAX)
        .map_err(|_| io::ErrorKind::InvalidInput)?;
    config
        .set_max_background(BACKGROUND_MAX)
        .map_err(|_| io::ErrorKind::InvalidInput)?;
    let version = config.kernel_abi();
    Ok(Agreed {
        protocol: (version.0, version.1),
        flags: offered & KNOWN,
        // Asking for too much is answered with what was offered.
        max_readahead: config
            .set_max_readahead(u32::MAX)
            .unwrap_or_else(|offered| offered),
    })
}

impl Agreed {
    /// Whether files and folders are opened without asking.
    pub(super) fn has_no_open(self) -> bool {
        self.flags
            .contains(InitFlags::FUSE_NO_OPEN_SUPPORT | InitFlags::FUSE_NO_OPENDIR_SUPPORT)
    }

    pub(super) fn at(self, device: (u32, u32)) -> Connection {
        Connection {
            device,
            protocol: self.protocol,
            flags: self.flags.bits(),
            max_readahead: self.max_readahead,
        }
    }
}
