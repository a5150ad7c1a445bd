//! The same promises, from a keeper process and from a stand-in for systemd.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tempfile::TempDir;

use super::*;

/// What keeps in a test, and can be asked again by a daemon that knows nothing.
trait Place {
    fn keeper(&self) -> Keeper;
}

/// `hold` on a thread, which is all the process does.
struct Thread {
    socket: PathBuf,
    thread: Option<JoinHandle<io::Result<()>>>,
    _dir: TempDir,
}

impl Thread {
    fn new() -> Self {
        use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("keeper.sock");
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let listener = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&listener, &SocketAddrUnix::new(&socket).unwrap()).unwrap();
        rustix::net::listen(&listener, 1).unwrap();
        let path = socket.clone();
        let thread = std::thread::spawn(move || holder::hold(&listener, &path));
        Self {
            socket,
            thread: Some(thread),
            _dir: dir,
        }
    }
}

impl Place for Thread {
    fn keeper(&self) -> Keeper {
        Keeper::Process(ProcessKeeper::find_or_start(&self.socket, Path::new("/nonexistent")).unwrap())
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        if self.socket.exists() {
            self.keeper().end().unwrap();
        }
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

/// Reads notifications as systemd does.
struct FakeSystemd {
    socket: PathBuf,
    held: Arc<Mutex<BTreeMap<String, OwnedFd>>>,
    thread: Option<JoinHandle<()>>,
    _dir: TempDir,
}

impl FakeSystemd {
    fn new(has_store: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("notify");
        let listener = UnixDatagram::bind(&socket).unwrap();
        let held = Arc::new(Mutex::new(BTreeMap::new()));
        let state = Arc::clone(&held);
        let thread = std::thread::spawn(move || {
            // The first two bytes of a packet pass for version and code.
            while let Ok(packet) = wire::receive(&listener) {
                let head = [packet.version, packet.code];
                let text = String::from_utf8([&head[..], &packet.text].concat()).unwrap();
                let mut held = state.lock().unwrap();
                let name = text.lines().find_map(|line| line.strip_prefix("FDNAME="));
                match (text.lines().next().unwrap(), name) {
                    ("FDSTORE=1", Some(name)) if has_store => {
                        held.extend(packet.descriptors.into_iter().map(|fd| (name.to_owned(), fd)));
                    }
                    ("FDSTOREREMOVE=1", Some(name)) => drop(held.remove(name)),
                    ("STOP", _) => return,
                    _ => {}
                }
            }
        });
        Self {
            socket,
            held,
            thread: Some(thread),
            _dir: dir,
        }
    }

    fn new_keeper(&self) -> SystemdKeeper {
        let held = self.held.lock().unwrap();
        let copies = held
            .iter()
            .map(|(name, fd)| (name.clone(), fd.try_clone().unwrap()));
        SystemdKeeper::new(self.socket.as_os_str(), copies.collect())
    }
}

impl Place for FakeSystemd {
    fn keeper(&self) -> Keeper {
        let keeper = self.new_keeper();
        // As systemd's answer would: all messages before it have been read.
        assert!(keeper.has_store());
        drop(keeper);
        Keeper::Systemd(self.new_keeper())
    }
}

impl Drop for FakeSystemd {
    fn drop(&mut self) {
        let socket = UnixDatagram::unbound().unwrap();
        socket.send_to(b"STOP\n", &self.socket).unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn names(keeper: &Keeper) -> Vec<String> {
    let mut names: Vec<_> = keeper.take().unwrap().into_iter().map(|(name, _)| name).collect();
    names.sort();
    names
}

fn keeps_what_it_promises(place: &dyn Place) {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let first = place.keeper();
    first.store("b", theirs.as_fd()).unwrap();
    first
        .store("a", File::open("/dev/null").unwrap().as_fd())
        .unwrap();
    drop((first, theirs));

    let second = place.keeper();
    assert_eq!(names(&second), ["a", "b"]);
    let taken = second.take().unwrap();
    let (_, stream) = taken.into_iter().find(|(name, _)| name == "b").unwrap();
    UnixStream::from(stream).write_all(b"x").unwrap();
    let mut read = [0];
    ours.read_exact(&mut read).unwrap();

    // A second one of the name takes the place of the first.
    second
        .store("b", File::open("/dev/zero").unwrap().as_fd())
        .unwrap();
    assert_eq!(ours.read(&mut read).unwrap(), 0);
    second.remove("a").unwrap();
    second.remove("never there").unwrap();
    let third = place.keeper();
    assert_eq!(names(&third), ["b"]);
    drop(second);
    third.end().unwrap();
}

#[test]
fn a_process_keeps() {
    keeps_what_it_promises(&Thread::new());
}

#[test]
fn systemd_keeps() {
    let systemd = FakeSystemd::new(true);
    keeps_what_it_promises(&systemd);
    assert!(systemd.new_keeper().has_store());
    assert!(systemd.held.lock().unwrap().is_empty());
}

#[test]
fn a_unit_without_a_store_is_noticed() {
    assert!(!FakeSystemd::new(false).new_keeper().has_store());
}

#[test]
fn another_version_is_refused() {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keeper.sock");
    let listener = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
    rustix::net::bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&listener, 1).unwrap();
    let later = std::thread::spawn(move || {
        let socket = rustix::net::accept(&listener).unwrap();
        wire::receive(&socket).unwrap();
        wire::send_with_rights(&socket, &[&[wire::VERSION + 1, wire::OTHER_VERSION]], &[]).unwrap();
    });
    let refused = ProcessKeeper::find_or_start(&path, Path::new("/nonexistent"));
    later.join().unwrap();
    match refused {
        Err(Error::Version { keeper, ours }) => assert_eq!(keeper, ours + 1),
        other => panic!("{other:?}"),
    }
}

#[test]
fn there_is_an_end_to_what_is_kept() {
    let thread = Thread::new();
    let keeper = thread.keeper();
    let null = File::open("/dev/null").unwrap();
    for name in 0..wire::COUNT_MAX {
        keeper.store(&name.to_string(), null.as_fd()).unwrap();
    }
    assert!(matches!(keeper.store("more", null.as_fd()), Err(Error::Refused)));
    keeper.store("0", null.as_fd()).unwrap();
    assert_eq!(keeper.take().unwrap().len(), wire::COUNT_MAX);
}

#[test]
fn a_keeper_nobody_can_find_ends() {
    let mut thread = Thread::new();
    std::fs::remove_file(&thread.socket).unwrap();
    // It looks by itself; the test only waits for it.
    thread.thread.take().unwrap().join().unwrap().unwrap();
    thread.thread = Some(std::thread::spawn(|| Ok(())));
}
