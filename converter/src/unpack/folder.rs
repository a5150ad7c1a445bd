//! Unpacking to a folder. Every call names a file by its parent's descriptor and one component, so no symbolic
//! link of the image is ever followed.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rafs::tree::FileType;
use rafs::{Inode, Timestamp};
use rustix::fs::{self, AtFlags, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::archive::device;
use super::{Item, Lost, Sink};
use crate::error::Error;

/// Directories are private until their content is complete, so that a mode such as 0555 does not hinder us.
const DIR_MODE: Mode = Mode::RWXU;
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Writes files.
pub(super) struct FolderSink {
    /// The folder, for messages.
    path: PathBuf,
    /// The directories from the root to where we are.
    open: Vec<OpenDir>,
    file: Option<OpenFile>,
    identity: Identity,
    lost: Lost,
}

struct OpenDir {
    fd: OwnedFd,
    path: Vec<u8>,
    attr: Attr,
}

struct OpenFile {
    file: File,
    path: Vec<u8>,
    attr: Attr,
}

/// What is set when a file or directory is complete.
struct Attr {
    inode: Inode,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// User and group that new files get.
struct Identity((u32, u32));

impl FolderSink {
    /// Opens the folder, which must be empty, or makes it.
    pub(super) fn create(path: &Path) -> Result<Self, Error> {
        let failed = |doing| {
            move |source| Error::Io {
                doing,
                path: path.to_owned(),
                source,
            }
        };
        std::fs::create_dir_all(path).map_err(failed("creating"))?;
        let mut entries = std::fs::read_dir(path).map_err(failed("reading"))?;
        if entries.next().is_some() {
            return Err(Error::NotEmpty {
                path: path.to_owned(),
            });
        }
        Ok(FolderSink {
            path: path.to_owned(),
            open: Vec::new(),
            file: None,
            identity: Identity((
                rustix::process::geteuid().as_raw(),
                rustix::process::getegid().as_raw(),
            )),
            lost: Lost::default(),
        })
    }

    fn error(&self, doing: &'static str, path: &[u8], source: impl Into<io::Error>) -> Error {
        Error::Io {
            doing,
            path: self.path.join(OsStr::from_bytes(path)),
            source: source.into(),
        }
    }

    /// Completes directories until `depth` of them are open beside the root.
    fn close_to(&mut self, depth: usize) -> Result<(), Error> {
        while self.open.len() > depth {
            let Some(dir) = self.open.pop() else { break };
            self.complete(&dir.fd, &dir.attr, &dir.path)?;
        }
        Ok(())
    }

    /// Sets owner, attributes, mode and times: in this order, because giving a file away takes setuid bits and
    /// capabilities from it, and everything changes its times.
    fn complete(&mut self, fd: &OwnedFd, attr: &Attr, path: &[u8]) -> Result<(), Error> {
        let mode = self.give(&attr.inode, path, |uid, gid| fs::fchown(fd, uid, gid))?;
        let mut is_lost = false;
        for (name, value) in &attr.xattrs {
            let set = fs::fsetxattr(fd, OsStr::from_bytes(name), value, XattrFlags::empty());
            is_lost |= self.is_lost(path, set)?;
        }
        self.lost.xattrs += u64::from(is_lost);
        fs::fchmod(fd, mode).map_err(|errno| self.error("setting the mode of", path, errno))?;
        let mtime = attr.inode.mtime;
        let set = fs::futimens(fd, &times(mtime)).and_then(|()| fs::fstat(fd));
        self.note_times(path, mtime, set)
    }

    /// The same for what cannot be opened: links, devices, FIFOs, sockets.
    fn complete_at(&mut self, dir: &OwnedFd, item: &Item<'_>) -> Result<(), Error> {
        let (inode, path, name) = (&item.step.inode, &item.step.path[..], os(item.step.name()));
        let no_follow = AtFlags::SYMLINK_NOFOLLOW;
        let mode = self.give(inode, path, |uid, gid| {
            fs::chownat(dir, name, uid, gid, no_follow)
        })?;
        let mut is_lost = false;
        // There is no call that takes a descriptor and a name; the kernel's own name for the directory serves.
        let by_path = Path::new("/proc/self/fd")
            .join(dir.as_raw_fd().to_string())
            .join(name);
        for (xattr, value) in &item.xattrs {
            let set = fs::lsetxattr(&by_path, OsStr::from_bytes(xattr), value, XattrFlags::empty());
            is_lost |= self.is_lost(path, set)?;
        }
        self.lost.xattrs += u64::from(is_lost);
        if inode.file_type != FileType::Symlink {
            fs::chmodat(dir, name, mode, AtFlags::empty())
                .map_err(|errno| self.error("setting the mode of", path, errno))?;
        }
        let set = fs::utimensat(dir, name, &times(inode.mtime), no_follow)
            .and_then(|()| fs::statat(dir, name, no_follow));
        self.note_times(path, inode.mtime, set)
    }

    /// Notes times that the file system cannot say. It mostly takes the nearest that it can, without a word.
    fn note_times(&mut self, path: &[u8], mtime: Timestamp, set: Result<Stat, Errno>) -> Result<(), Error> {
        let is_kept = match set {
            Ok(stat) => has_time(&stat, mtime),
            Err(Errno::INVAL | Errno::OVERFLOW | Errno::RANGE) => false,
            Err(errno) => return Err(self.error("setting the times of", path, errno)),
        };
        self.lost.times += u64::from(!is_kept);
        Ok(())
    }

    /// Gives a file to its owner and says which mode it may have: setuid and setgid mean the right owner only.
    fn give(
        &mut self,
        inode: &Inode,
        path: &[u8],
        chown: impl FnOnce(Option<Uid>, Option<Gid>) -> Result<(), Errno>,
    ) -> Result<Mode, Error> {
        let mode = Mode::from_raw_mode(u32::from(inode.permissions));
        if self.identity.0 == (inode.uid, inode.gid) {
            return Ok(mode);
        }
        // To Linux this id is none, and asks to leave the owner as it is.
        let is_id = |id: &u32| *id != u32::MAX;
        let uid = Some(inode.uid).filter(is_id).map(Uid::from_raw);
        let gid = Some(inode.gid).filter(is_id).map(Gid::from_raw);
        let is_whole = uid.is_some() && gid.is_some();
        match chown(uid, gid) {
            Ok(()) if is_whole => Ok(mode),
            // Not root; or root of a user namespace that does not have the owner.
            Ok(()) | Err(Errno::PERM | Errno::INVAL) => {
                self.lost.owner += 1;
                Ok(mode - (Mode::SUID | Mode::SGID))
            }
            Err(errno) => Err(self.error("giving away", path, errno)),
        }
    }

    /// Whether an attribute is lost, and why that is no failure.
    fn is_lost(&self, path: &[u8], set: Result<(), Errno>) -> Result<bool, Error> {
        match set {
            Ok(()) => Ok(false),
            Err(errno) if is_refusal(errno) => Ok(true),
            Err(errno) => Err(self.error("setting attributes of", path, errno)),
        }
    }

    fn put_dir(&mut self, item: &Item<'_>) -> Result<(), Error> {
        let path = &item.step.path[..];
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        let fd = match self.open.last() {
            None => fs::open(&self.path, flags - OFlags::NOFOLLOW, Mode::empty()),
            Some(parent) => fs::mkdirat(&parent.fd, os(item.step.name()), DIR_MODE)
                .and_then(|()| fs::openat(&parent.fd, os(item.step.name()), flags, Mode::empty())),
        };
        let fd = fd.map_err(|errno| self.error("creating", path, errno))?;
        let attr = Attr {
            inode: item.step.inode,
            xattrs: item.xattrs.clone(),
        };
        self.open.push(OpenDir {
            fd,
            path: path.to_vec(),
            attr,
        });
        Ok(())
    }

    fn put_file(&mut self, dir: BorrowedFd<'_>, item: &Item<'_>) -> Result<(), Errno> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
        let fd = fs::openat(dir, os(item.step.name()), flags, FILE_MODE)?;
        let attr = Attr {
            inode: item.step.inode,
            xattrs: item.xattrs.clone(),
        };
        self.file = Some(OpenFile {
            file: File::from(fd),
            path: item.step.path.clone(),
            attr,
        });
        Ok(())
    }

    /// Makes a link, device, FIFO or socket; says whether it is there.
    fn put_special(&mut self, dir: BorrowedFd<'_>, item: &Item<'_>) -> Result<bool, Errno> {
        let (inode, name) = (&item.step.inode, os(item.step.name()));
        let made = match inode.file_type {
            FileType::Symlink => fs::symlinkat(OsStr::from_bytes(item.target), dir, name),
            kind => {
                let (major, minor) = device(inode.rdev);
                let device = fs::makedev(major, minor);
                fs::mknodat(
                    dir,
                    name,
                    fs::FileType::from_raw_mode(u32::from(kind.mode_bits())),
                    FILE_MODE,
                    device,
                )
            }
        };
        match (made, inode.file_type) {
            (Ok(()), _) => Ok(true),
            (Err(Errno::PERM), FileType::CharDevice | FileType::BlockDevice) => {
                self.lost.devices += 1;
                Ok(false)
            }
            (Err(errno), _) => Err(errno),
        }
    }

    fn link(&self, dir: BorrowedFd<'_>, item: &Item<'_>, first: &[u8]) -> Result<(), Errno> {
        let Some(root) = self.open.first() else {
            return Err(Errno::BADF);
        };
        match fs::linkat(
            &root.fd,
            OsStr::from_bytes(first),
            dir,
            os(item.step.name()),
            AtFlags::empty(),
        ) {
            // The device it would be a link to could not be made.
            Err(Errno::NOENT) if self.lost.devices > 0 => Ok(()),
            linked => linked,
        }
    }
}

impl Sink for FolderSink {
    fn put(&mut self, item: &Item<'_>) -> Result<(), Error> {
        let path = &item.step.path[..];
        let depth = if path.is_empty() { 0 } else { item.step.depth + 1 };
        self.close_to(depth)?;
        if item.step.inode.file_type == FileType::Directory {
            return self.put_dir(item);
        }
        let Some(parent) = self.open.last() else {
            return Err(self.error("creating", path, Errno::BADF));
        };
        let dir = parent
            .fd
            .try_clone()
            .map_err(|source| self.error("creating", path, source))?;
        let borrowed = std::os::fd::AsFd::as_fd(&dir);
        let made = match (item.link_to, item.step.inode.file_type) {
            (Some(first), _) => self.link(borrowed, item, first).map(|()| false),
            (None, FileType::Regular) => self.put_file(borrowed, item).map(|()| false),
            (None, _) => self.put_special(borrowed, item),
        };
        match made {
            Ok(true) => self.complete_at(&dir, item),
            Ok(false) => Ok(()),
            Err(errno) => Err(self.error("creating", path, errno)),
        }
    }

    fn write(&mut self, content: &[u8]) -> Result<(), Error> {
        let Some(open) = &mut self.file else { return Ok(()) };
        let written = open.file.write_all(content);
        written.map_err(|source| Error::Io {
            doing: "writing",
            path: self.path.join(OsStr::from_bytes(&open.path)),
            source,
        })
    }

    fn end_file(&mut self) -> Result<(), Error> {
        match self.file.take() {
            Some(open) => self.complete(&open.file.into(), &open.attr, &open.path),
            None => Ok(()),
        }
    }

    fn finish(mut self: Box<Self>) -> Result<Lost, Error> {
        self.close_to(0)?;
        Ok(self.lost)
    }
}

/// Whether the user or the file system does not take an attribute: it may not be set, is of a kind that is not stored,
/// or too large. Most file systems have a block for the attributes of a file, and say that the disk is full when that is.
fn is_refusal(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::PERM
            | Errno::ACCESS
            | Errno::NOTSUP
            | Errno::NOSPC
            | Errno::DQUOT
            | Errno::TOOBIG
            | Errno::RANGE
            | Errno::INVAL
    )
}

fn has_time(stat: &Stat, mtime: Timestamp) -> bool {
    stat.st_mtime == mtime.secs && stat.st_mtime_nsec == u64::from(mtime.nanos)
}

fn times(mtime: Timestamp) -> Timestamps {
    let time = Timespec {
        tv_sec: mtime.secs,
        tv_nsec: mtime.nanos.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

fn os(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}
