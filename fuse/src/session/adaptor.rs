//! The kernel's requests, answered from the tree: at once on the session's thread, or later from the engine when
//! bytes have to be fetched. The mount is read-only, so requests that change something never come.

use std::ffi::OsStr;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    AccessFlags, Errno, FileAttr, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
};
use rafs::FileType;

use super::agreement::{self, Agreed};
use super::mark::Mark;
use crate::errno::{ErrorChain, errno};
use crate::fetch::Engine;
use crate::mapping;
use crate::tree::{Attr, Error, Lifetime, Listed, Tree};

/// How long the kernel keeps what never changes. A year, because "for ever" overflows in some of its sums.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Unit of the sizes `statfs` shows, and the best unit for reads that `stat` shows.
const BLOCK_LEN: u32 = 4096;

/// Longest file name, in bytes.
const NAME_MAX: u32 = 255;

/// Answers for a tree.
pub(super) struct Adaptor {
    tree: Arc<Tree>,
    engine: Arc<Engine>,
    has_no_open: bool,
    agreed: Arc<OnceLock<Agreed>>,
    mark: Mark,
}

/// The kernel's number of a request. Those that it sends again have it without the bit that says so.
pub(super) struct Number(pub(super) u64);

/// `FUSE_UNIQUE_RESEND`: the request is sent again.
const SENT_AGAIN: u64 = 1 << 63;

impl Adaptor {
    pub(super) fn new(tree: Arc<Tree>, engine: Arc<Engine>, mark: Mark) -> Self {
        Adaptor {
            tree,
            engine,
            mark,
            has_no_open: false,
            agreed: Arc::default(),
        }
    }

    /// What will be agreed on with the kernel, once it has greeted.
    pub(super) fn agreed(&self) -> Arc<OnceLock<Agreed>> {
        self.agreed.clone()
    }

    fn note(&self, request: &Request) {
        self.mark.note(Number(request.unique().0 & !SENT_AGAIN));
    }

    fn read_now_or_later(&self, ino: u64, offset: u64, len: u32, reply: ReplyData) {
        let (served, runs) = match self.tree.runs(ino, offset, len) {
            Ok(found) => found,
            Err(error) => return reply.error(log_errno(ino, &error)),
        };
        let len = runs.iter().map(|run| run.len() as usize).sum();
        mapping::with_buffer(len, |buffer| {
            if let Some(bytes) = buffer
                && served.supply.read_ready(&runs, bytes)
            {
                return reply.data(bytes);
            }
            let supply = served.supply.clone();
            self.engine.spawn(async move {
                match supply.read(runs).await {
                    Ok(bytes) => reply.data(&bytes),
                    Err(error) => reply.error(log_errno(ino, &Error::Fetch(error))),
                }
            });
        });
    }
}

/// Errors that mean something is wrong, beside those that are answers.
fn log_errno(ino: u64, error: &Error) -> Errno {
    if matches!(error, Error::Image(_) | Error::Fetch(_)) {
        tracing::warn!(ino, error = %ErrorChain(error), "a request failed");
    }
    to_fuser(error)
}

fn to_fuser(error: &Error) -> Errno {
    Errno::from_i32(errno(error).raw_os_error())
}

fn ttl(lifetime: Lifetime) -> Duration {
    match lifetime {
        Lifetime::Forever => FOREVER,
        Lifetime::Now => Duration::ZERO,
    }
}

fn file_type(file_type: FileType) -> fuser::FileType {
    match file_type {
        FileType::Regular => fuser::FileType::RegularFile,
        FileType::Directory => fuser::FileType::Directory,
        FileType::Symlink => fuser::FileType::Symlink,
        FileType::CharDevice => fuser::FileType::CharDevice,
        FileType::BlockDevice => fuser::FileType::BlockDevice,
        FileType::Fifo => fuser::FileType::NamedPipe,
        FileType::Socket => fuser::FileType::Socket,
    }
}

/// Times beyond what the system can name become the epoch.
fn system_time(time: rafs::Timestamp) -> SystemTime {
    let seconds = Duration::from_secs(time.secs.unsigned_abs());
    let whole = match time.secs {
        0.. => UNIX_EPOCH.checked_add(seconds),
        _ => UNIX_EPOCH.checked_sub(seconds),
    };
    whole
        .and_then(|whole| whole.checked_add(Duration::from_nanos(u64::from(time.nanos))))
        .unwrap_or(UNIX_EPOCH)
}

fn file_attr(attr: &Attr) -> FileAttr {
    let time = system_time(attr.mtime);
    FileAttr {
        ino: INodeNo(attr.ino),
        size: attr.size,
        blocks: attr.blocks,
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: file_type(attr.file_type),
        perm: attr.permissions,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: BLOCK_LEN,
        flags: 0,
    }
}

/// The entry that stands for "no such name", and may be kept: number 0.
fn no_entry() -> FileAttr {
    file_attr(&Attr {
        ino: 0,
        file_type: FileType::Regular,
        permissions: 0,
        uid: 0,
        gid: 0,
        mtime: rafs::Timestamp::default(),
        size: 0,
        blocks: 0,
        nlink: 0,
        rdev: 0,
    })
}

/// Answers with the length of `bytes` or, where the caller has room, with `bytes`.
fn reply_sized(reply: ReplyXattr, bytes: &[u8], room: u32) {
    match u32::try_from(bytes.len()) {
        Ok(len) if room == 0 => reply.size(len),
        Ok(len) if len <= room => reply.data(bytes),
        _ => reply.error(to_fuser(&Error::Range)),
    }
}

impl Filesystem for Adaptor {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let agreed = agreement::agree(config)?;
        self.has_no_open = agreed.has_no_open();
        // The kernel greets once.
        let _ = self.agreed.set(agreed);
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.note(request);
        match self.tree.lookup(parent.0, name.as_bytes()) {
            Ok(Some(attr)) => {
                // Counted before it is sent: the kernel may give it back at once.
                self.tree.remember(attr.ino);
                let (attr_ttl, name_ttl) = (
                    ttl(Lifetime::of_attr(attr.ino)),
                    ttl(Lifetime::of_names_in(parent.0)),
                );
                reply.entry_with_ttls(&attr_ttl, &name_ttl, &file_attr(&attr), Generation(0));
            }
            Ok(None) => reply.entry(&FOREVER, &no_entry(), Generation(0)),
            Err(error) => reply.error(log_errno(parent.0, &error)),
        }
    }

    fn forget(&self, _: &Request, ino: INodeNo, count: u64) {
        self.tree.forget(ino.0, count);
    }

    fn getattr(&self, request: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.note(request);
        match self.tree.attr(ino.0) {
            Ok(attr) => reply.attr(&ttl(Lifetime::of_attr(ino.0)), &file_attr(&attr)),
            Err(error) => reply.error(log_errno(ino.0, &error)),
        }
    }

    fn readlink(&self, request: &Request, ino: INodeNo, reply: ReplyData) {
        self.note(request);
        match self.tree.readlink(ino.0, <[u8]>::to_vec) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(log_errno(ino.0, &error)),
        }
    }

    /// Answers once that opening needs no answer: numbers alone say what is read, and everything may be kept.
    fn open(&self, request: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.note(request);
        match self.has_no_open {
            true => reply.error(Errno::ENOSYS),
            false => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
        }
    }

    fn opendir(&self, request: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.note(request);
        match self.has_no_open {
            true => reply.error(Errno::ENOSYS),
            false => {
                let flags = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR;
                reply.opened(FileHandle(0), flags);
            }
        }
    }

    fn read(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.note(request);
        self.read_now_or_later(ino.0, offset, size, reply);
    }

    fn readdir(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        self.note(request);
        let mut is_empty = true;
        let result = self.tree.list(ino.0, offset, &mut |listed: Listed<'_>| {
            let kind = file_type(listed.file_type);
            if reply.add(
                INodeNo(listed.ino),
                listed.next,
                kind,
                OsStr::from_bytes(listed.name),
            ) {
                return ControlFlow::Break(());
            }
            is_empty = false;
            ControlFlow::Continue(())
        });
        match result {
            // What was found before the damage is shown; asking for more then shows the error.
            Err(error) if is_empty => reply.error(log_errno(ino.0, &error)),
            _ => reply.ok(),
        }
    }

    fn readdirplus(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        self.note(request);
        let mut is_empty = true;
        let mut damage = None;
        let result = self.tree.list(ino.0, offset, &mut |listed: Listed<'_>| {
            let attr = match self.tree.attr(listed.ino) {
                Ok(attr) => attr,
                Err(error) => {
                    damage = Some(error);
                    return ControlFlow::Break(());
                }
            };
            let name = OsStr::from_bytes(listed.name);
            let number = INodeNo(listed.ino);
            // One time for both: the shorter.
            let ttl = ttl(Lifetime::of_names_in(ino.0)).min(ttl(Lifetime::of_attr(listed.ino)));
            if reply.add(number, listed.next, name, &ttl, &file_attr(&attr), Generation(0)) {
                return ControlFlow::Break(());
            }
            if !matches!(listed.name, b"." | b"..") {
                self.tree.remember(listed.ino);
            }
            is_empty = false;
            ControlFlow::Continue(())
        });
        match result.and(damage.map_or(Ok(()), Err)) {
            Err(error) if is_empty => reply.error(log_errno(ino.0, &error)),
            _ => reply.ok(),
        }
    }

    fn getxattr(&self, request: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        self.note(request);
        match self.tree.xattr(ino.0, name.as_bytes(), <[u8]>::to_vec) {
            Ok(value) => reply_sized(reply, &value, size),
            Err(error) => reply.error(log_errno(ino.0, &error)),
        }
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.note(request);
        match self.tree.xattr_names(ino.0) {
            Ok(names) => reply_sized(reply, &names, size),
            Err(error) => reply.error(log_errno(ino.0, &error)),
        }
    }

    fn statfs(&self, request: &Request, _: INodeNo, reply: ReplyStatfs) {
        self.note(request);
        let totals = self.tree.totals();
        let blocks = totals.bytes.div_ceil(u64::from(BLOCK_LEN));
        reply.statfs(blocks, 0, 0, totals.inodes, 0, BLOCK_LEN, NAME_MAX, BLOCK_LEN);
    }

    // What programs ask of every file. "Not here" lets the kernel stop asking and do it by itself.

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn lseek(&self, _: &Request, _: INodeNo, _: FileHandle, _: i64, _: i32, reply: ReplyLseek) {
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOSYS);
    }
}
