//! One server after another on the same connection: killed, told to leave, and gone together with who kept it.

mod relay;

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use rafs::Tree;
use rustix::fs::OFlags;

use self::relay::{Orders, Relay};
use super::*;
use crate::Connection;
use crate::fixture::{Builder, CHUNK_LEN, Fixture, mode, noise};
use crate::mapping::FileMap;

/// Length of the file that is read, in bytes.
const LEN: usize = 8 << 20;

/// How often a server is killed.
const KILL_COUNT: usize = 30;

fn fixture(content: &[u8]) -> Fixture {
    let mut builder = Builder::new();
    builder.file(Tree::ROOT, "file", mode(0o644), content);
    builder.file(Tree::ROOT, "mapped", mode(0o644), content);
    builder.finish()
}

/// What the readers have seen so far.
#[derive(Default)]
struct Seen {
    is_over: AtomicBool,
    count: AtomicUsize,
    longest: std::sync::Mutex<Duration>,
}

impl Seen {
    fn until_over(&self, mut read: impl FnMut(usize)) {
        for step in 0.. {
            if self.is_over.load(Ordering::SeqCst) {
                return;
            }
            let begun = Instant::now();
            read(step);
            let mut longest = self.longest.lock().unwrap();
            *longest = begun.elapsed().max(*longest);
            self.count.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Ends the readers also when the test fails, which would else wait for them for ever.
struct Over<'a>(&'a Seen);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::SeqCst);
    }
}

/// Reads past the page cache, all over the file. A mount of EROFS whose devices are files takes no direct reads: there
/// the page cache is dropped before each.
fn read_directly(path: &Path, content: &[u8], reader: usize, seen: &Seen) {
    const READ_LEN: usize = 3 * CHUNK_LEN;
    let direct = i32::try_from(OFlags::DIRECT.bits()).unwrap();
    let opened = File::options().read(true).custom_flags(direct).open(path);
    let (file, is_direct) = match opened {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => (File::open(path).unwrap(), false),
        opened => (opened.unwrap(), true),
    };
    let mut bytes = vec![0; READ_LEN];
    seen.until_over(|step| {
        let offset = (step * 7919 + reader * 104_729) * CHUNK_LEN % (LEN - READ_LEN);
        if !is_direct {
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        }
        file.read_exact_at(&mut bytes, offset as u64).unwrap();
        assert!(bytes == content[offset..][..READ_LEN], "wrong bytes at {offset}");
    });
}

/// Maps the file anew each time, with nothing of it in the page cache. An error would be a SIGBUS.
fn read_mapped(path: &Path, content: &[u8], seen: &Seen) {
    const READ_LEN: usize = 64 * CHUNK_LEN;
    seen.until_over(|step| {
        drop_page_cache(path);
        let map = FileMap::open(path).unwrap();
        let offset = step * 7919 * CHUNK_LEN % (LEN - READ_LEN);
        assert!(map.as_ref()[offset..][..READ_LEN] == content[offset..][..READ_LEN]);
    });
}

/// Looks at names and attributes, which the kernel knows for a year: forgetting makes it ask again.
fn look_around(dir: &Path, seen: &Seen) {
    seen.until_over(|_| {
        let entries = std::fs::read_dir(dir).unwrap();
        let sizes: Vec<_> = entries
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .collect();
        assert_eq!(sizes, [LEN as u64, LEN as u64]);
    });
}

#[test]
fn readers_of_fuse_do_not_notice_that_servers_are_killed() {
    readers_do_not_notice(DataPath::Fuse);
}

#[test]
fn readers_of_erofs_do_not_notice_that_servers_are_killed() {
    readers_do_not_notice(DataPath::Erofs);
}

fn readers_do_not_notice(data_path: DataPath) {
    let content = noise(LEN, 7);
    let fixture = fixture(&content);
    let mut relay = Relay::new(&fixture, data_path);
    let orders = Orders::ANSWER;
    relay.start(orders);
    let (file, mapped) = (relay.path(1, "file"), relay.path(1, "mapped"));
    let seen = Seen::default();
    std::thread::scope(|scope| {
        let _over = Over(&seen);
        for reader in 0..2 {
            let (file, content, seen) = (&file, &content, &seen);
            scope.spawn(move || read_directly(file, content, reader, seen));
        }
        scope.spawn(|| read_mapped(&mapped, &content, &seen));
        scope.spawn(|| look_around(file.parent().unwrap(), &seen));
        for round in 0..KILL_COUNT {
            // At a moment that has nothing to do with what the server does just then.
            let more = seen.count.load(Ordering::SeqCst) + 1 + round * 37 % 101;
            eventually(|| seen.count.load(Ordering::SeqCst) >= more);
            relay.kill();
            relay.start(orders);
        }
    });
    let (reads, longest) = (seen.count.into_inner(), seen.longest.into_inner().unwrap());
    let figures = format!("{data_path:?}: {KILL_COUNT} kills, {reads} reads, longest wait {longest:?}");
    writeln!(std::io::stderr(), "{figures}").unwrap();
}

#[test]
fn a_server_that_leaves_fails_no_read() {
    let content = noise(LEN, 8);
    let fixture = fixture(&content);
    let mut relay = Relay::new(&fixture, DataPath::Fuse);
    relay.start(Orders::HANG);
    let file = relay.path(1, "file");
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| std::fs::read(&file));
        relay.asked();
        relay.leave();
        relay.start(Orders::ANSWER);
        assert!(reading.join().unwrap().unwrap() == content);
    });
}

#[test]
fn what_an_old_kernel_cannot_send_again_ends_in_an_error() {
    let content = noise(LEN, 11);
    let fixture = fixture(&content);
    let mut relay = Relay::new(&fixture, DataPath::Fuse);
    relay.start(Orders::HANG);
    let path = relay.path(1, "file");
    let direct = i32::try_from(OFlags::DIRECT.bits()).unwrap();
    let file = File::options()
        .read(true)
        .custom_flags(direct)
        .open(&path)
        .unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| file.read_exact_at(&mut [0; CHUNK_LEN], 0));
        relay.asked();
        relay.kill();
        relay.forget_resending();
        relay.start(Orders::ANSWER);
        let error = waiting.join().unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
    });
    // What comes afterwards is answered.
    let mut bytes = [0; CHUNK_LEN];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == content[..CHUNK_LEN]);
    assert!(std::fs::read(&path).unwrap() == content);
}

#[test]
fn without_a_keeper_readers_get_errors_and_the_next_server_starts_over() {
    let content = noise(LEN, 9);
    let fixture = fixture(&content);
    let mut relay = Relay::new(&fixture, DataPath::Fuse);
    relay.start(Orders::HANG);
    let path = relay.path(1, "file");
    let file = File::open(&path).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| file.read_exact_at(&mut [0; CHUNK_LEN], 0));
        relay.asked();
        relay.kill();
        relay.let_go();
        assert!(waiting.join().unwrap().is_err());
    });
    assert!(file.read_exact_at(&mut [0; CHUNK_LEN], 0).is_err());
    relay.unmount();
    relay.start(Orders::ANSWER);
    assert!(std::fs::read(&path).unwrap() == content);
    // What was opened before stays what it is: an error.
    assert!(file.read_exact_at(&mut [0; CHUNK_LEN], 0).is_err());
}

#[test]
fn an_image_that_the_next_server_does_not_know_gives_errors() {
    let content = noise(LEN, 10);
    let fixture = fixture(&content);
    let mut relay = Relay::new(&fixture, DataPath::Fuse);
    relay.start(Orders {
        images: 2,
        ..Orders::ANSWER
    });
    let gone = File::open(relay.path(2, "file")).unwrap();
    let mut bytes = vec![0; CHUNK_LEN];
    gone.read_exact_at(&mut bytes, 0).unwrap();
    relay.kill();
    relay.start(Orders::ANSWER);
    rustix::fs::fadvise(&gone, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let error = gone.read_exact_at(&mut bytes, 0).unwrap_err();
    assert_eq!(
        error.raw_os_error(),
        Some(rustix::io::Errno::STALE.raw_os_error())
    );
    // Its neighbour with the same content is none of its business.
    assert!(std::fs::read(relay.path(1, "file")).unwrap() == content);
}

#[test]
fn unknown_features_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = super::child::config_in(dir.path(), DataPath::Fuse);
    let server = Server::prepare(&config, runtime.handle().clone()).unwrap();
    let connection = Connection {
        device: (0, 1),
        protocol: (7, 45),
        flags: 1 << 60 | 1,
        max_readahead: 1 << 17,
    };
    let device = File::open("/dev/null").unwrap();
    match server.resume(device.as_fd(), &connection) {
        Err(Error::Resume(ResumeError { unknown })) => assert_eq!(unknown, 1 << 60),
        other => panic!("{other:?}"),
    }
}
