//! Servers in processes of their own that follow one another on one connection, which the test keeps meanwhile.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use rustix::io::{IoSlice, IoSliceMut};
use rustix::mount::UnmountFlags;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde_json::{Value, json};

use super::super::child::{DIR, config_in, lay_out, source_in};
use super::super::*;
use crate::Connection;
use crate::fixture::{Fault, Fixture};

/// `FUSE_HAS_RESEND` in `linux/fuse.h`.
const RESENDING: u64 = 1 << 39;

/// Longest message between test and child, in bytes.
const MESSAGE_LEN_MAX: usize = 4096;

fn send(socket: impl AsFd, message: &Value, device: Option<BorrowedFd<'_>>) {
    let text = message.to_string();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let devices = device.map(|device| [device]);
    if let Some(devices) = &devices {
        assert!(control.push(SendAncillaryMessage::ScmRights(devices)));
    }
    let text = [IoSlice::new(text.as_bytes())];
    sendmsg(socket, &text, &mut control, SendFlags::empty()).unwrap();
}

/// `None` at the end of the other side.
fn receive(socket: impl AsFd) -> Option<(Value, Option<OwnedFd>)> {
    let mut text = [0; MESSAGE_LEN_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut text)];
    let len = recvmsg(socket, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)
        .unwrap()
        .bytes;
    let device = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut devices) => devices.next(),
        _ => None,
    });
    (len > 0).then(|| (serde_json::from_slice(&text[..len]).unwrap(), device))
}

fn to_json(connection: &Connection) -> Value {
    let Connection {
        device,
        protocol,
        flags,
        max_readahead,
    } = connection;
    json!([device.0, device.1, protocol.0, protocol.1, max_readahead, flags])
}

fn from_json(value: &Value) -> Connection {
    let word = |index: usize| u32::try_from(value[index].as_u64().unwrap()).unwrap();
    Connection {
        device: (word(0), word(1)),
        protocol: (word(2), word(3)),
        flags: value[5].as_u64().unwrap(),
        max_readahead: word(4),
    }
}

/// What a server is to do.
#[derive(Clone, Copy, Default)]
pub(super) struct Orders {
    /// Serve images 1 to this.
    pub(super) images: u32,
    /// Never get an answer from the source, and tell when it was asked.
    pub(super) hang: bool,
}

impl Orders {
    /// One image, of which everything is to be had.
    pub(super) const ANSWER: Orders = Orders {
        images: 1,
        hang: false,
    };
    /// One image, of which nothing is to be had.
    pub(super) const HANG: Orders = Orders {
        images: 1,
        hang: true,
    };
}

/// A mount, the connection of which is kept here, and the child that serves it. Dropping it ends all.
pub(super) struct Relay {
    dir: PathBuf,
    data_path: DataPath,
    child: Option<(Child, OwnedFd)>,
    kept: Option<(Connection, OwnedFd)>,
}

impl Relay {
    /// Nothing runs yet.
    pub(super) fn new(fixture: &Fixture, data_path: DataPath) -> Self {
        let dir = lay_out(fixture).to_owned();
        std::fs::create_dir_all(dir.join("mnt")).unwrap();
        Relay {
            dir,
            data_path,
            child: None,
            kept: None,
        }
    }

    /// Where a file of an image shows.
    pub(super) fn path(&self, image: u32, name: &str) -> PathBuf {
        let folder = match self.data_path {
            DataPath::Erofs => "erofs",
            _ => "mnt/images",
        };
        self.dir.join(format!("{folder}/{image}/{name}"))
    }

    /// Starts a server: the first one mounts, each later one goes on. Returns when it answers.
    pub(super) fn start(&mut self, orders: Orders) {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "server::tests::takeover::relay::serve_in_turn"])
            .args(["--ignored", "--nocapture"])
            .env(DIR, &self.dir)
            .stdin(theirs)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let kept = self.kept.as_ref();
        let message = json!({
            "images": orders.images,
            "hang": orders.hang,
            "erofs": self.data_path == DataPath::Erofs,
            "connection": kept.map(|(connection, _)| to_json(connection)),
        });
        send(&ours, &message, kept.map(|(_, device)| device.as_fd()));
        let (answer, device) = receive(&ours).expect("a server that starts");
        self.child = Some((child, ours));
        if let Some(device) = device {
            self.kept = Some((from_json(&answer), device));
            // The kernel learns that closing needs no answer. Else the next child, which begins as a copy of this
            // process and closes the files it has open, would wait for a server: for itself.
            drop(std::fs::File::open(self.path(1, "file")).unwrap());
        }
    }

    /// Lets all later servers believe that the kernel cannot send requests again.
    pub(super) fn forget_resending(&mut self) {
        if let Some((connection, _)) = &mut self.kept {
            connection.flags &= !RESENDING;
        }
    }

    /// Kills the server without warning.
    pub(super) fn kill(&mut self) {
        if let Some((mut child, _)) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Waits until the server has asked its source.
    pub(super) fn asked(&self) {
        let (_, socket) = self.child.as_ref().unwrap();
        receive(socket).expect("a server that asks");
    }

    /// Tells the server to leave, and waits until it is gone.
    pub(super) fn leave(&mut self) {
        let (mut child, socket) = self.child.take().unwrap();
        send(&socket, &json!("leave"), None);
        assert!(child.wait().unwrap().success());
    }

    /// Closes the connection that was kept.
    pub(super) fn let_go(&mut self) {
        self.kept = None;
    }

    pub(super) fn unmount(&self) {
        rustix::mount::unmount(self.dir.join("mnt"), UnmountFlags::FORCE | UnmountFlags::DETACH).unwrap();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.kill();
        self.let_go();
        // Readers that wait, if a test failed, end with it.
        self.unmount();
        for (target, _) in crate::erofs::list(&self.dir.join("erofs")).unwrap_or_default() {
            crate::erofs::detach(&target).unwrap();
        }
    }
}

#[test]
#[ignore = "a child of other tests, which tell it what to do"]
fn serve_in_turn() {
    let dir = PathBuf::from(std::env::var_os(DIR).expect("run by another test"));
    let stdin = std::io::stdin();
    let socket = stdin.as_fd();
    let (orders, device) = receive(socket).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let data_path = match orders["erofs"].as_bool().unwrap() {
        true => DataPath::Erofs,
        false => DataPath::Fuse,
    };
    let config = config_in(&dir, data_path);
    let server = Server::prepare(&config, runtime.handle().clone()).unwrap();
    let source = source_in(&dir);
    let is_hanging = orders["hang"].as_bool().unwrap();
    if is_hanging {
        source.set(Fault::Hang);
    }
    let images = || {
        let numbers = 1..=orders["images"].as_u64().unwrap();
        numbers.map(|number| ImageSpec {
            id: ImageId(u32::try_from(number).unwrap()),
            bootstrap: dir.join("bootstrap"),
            source: source.clone(),
        })
    };
    for image in images() {
        server.announce(image).unwrap();
    }
    let mut answer = (json!({}), None);
    match device {
        Some(device) => {
            let connection = from_json(&orders["connection"]);
            server.resume(device.as_fd(), &connection).unwrap();
        }
        None => server
            .mount_kept(&mut |device, connection| {
                answer = (to_json(connection), Some(device.try_clone_to_owned()?));
                Ok(())
            })
            .unwrap(),
    }
    for image in images() {
        server.add(image).unwrap();
    }
    send(socket, &answer.0, answer.1.as_ref().map(AsFd::as_fd));
    if is_hanging {
        eventually(|| !source.reads().is_empty());
        send(socket, &json!({}), None);
    }
    if receive(socket).is_some() {
        server.leave().unwrap();
    }
}
