//! Daemons that stop, die and start under real containers: what waits, what stays, and what is gone when nobody keeps it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use integration::client::Client;
use integration::containerd::SNAPSHOTTER;
use integration::image::busybox;
use integration::node::Node;
use integration::reader::Way;
use integration::{mounts, process, wait};
use rstest::rstest;
use rustix::process::{Pid, Signal, getpgid, kill_process};

use super::crash::Stage;
use super::{node_on, say};

/// How long something that is bound to come may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Tries to make a call wait.
const CALLS: usize = 8;
/// Starts on what the last daemon left.
const ADOPTIONS: usize = 20;
/// Adoptions that are compared with as many at the end.
const SETTLED: usize = 5;
/// Descriptors of a daemon that may come and go.
const CONNECTIONS: usize = 4;
/// KiB by which the heap of one daemon may differ from that of another that did the same.
const HEAP_KIB: u64 = 4 << 10;

/// What the busybox image prints.
const GREETING: &str = "hello from a layer";

/// Pulls the busybox image lazily; gives its name.
fn pull(node: &Node) -> String {
    let small = node.scene.dir().join("small");
    busybox::make(&small).unwrap();
    let reference = node.offer_converted(&small, "busybox:1", "busybox:rafs").unwrap();
    node.pull_lazily(&reference).unwrap();
    reference
}

/// Starts a container that sleeps; gives its name.
fn sleeper(node: &Node, reference: &str) -> String {
    let id = node.scene.unique("sleeper");
    let mut ctr = node.containerd.ctr();
    ctr.args(["run", "--detach", "--snapshotter", SNAPSHOTTER, reference, &id]);
    process::run(ctr.args(["/bin/sleep", "100000"])).unwrap();
    id
}

/// Runs a command in a container.
fn exec(node: &Node, container: &str, argv: &[&str]) -> anyhow::Result<String> {
    let mut ctr = node.containerd.ctr();
    ctr.args(["task", "exec", "--exec-id", &node.scene.unique("exec"), container]);
    process::text(ctr.args(argv))
}

/// Process of a container's task.
fn task(node: &Node, container: &str) -> String {
    let listing = process::text(node.containerd.ctr().args(["tasks", "ls"])).unwrap();
    let row = listing.lines().find(|row| row.starts_with(container));
    row.unwrap().split_whitespace().nth(1).unwrap().to_owned()
}

/// A call to containerd that may wait. Dropping it kills it.
struct Call(Child);

impl Call {
    fn start(mut command: Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        Call(child.unwrap())
    }

    fn is_waiting(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// What it printed, unless it failed.
    fn end(mut self) -> Option<String> {
        let stdout = self.0.stdout.take().unwrap();
        let reading = std::thread::spawn(move || std::io::read_to_string(stdout));
        let status = wait::until(PATIENCE, "the end of a call", || self.0.try_wait().unwrap()).unwrap();
        let said = reading.join().unwrap().unwrap();
        status.success().then_some(said)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Connections that wait in the queue of a listening socket. It was bound under another name first, which stays in the
/// kernel's list.
fn queued(socket: &Path) -> usize {
    // Kind, state, queue, its limit, path.
    let listing = process::text(Command::new("ss").args(["-xlH"])).unwrap();
    let row = listing
        .lines()
        .map(|row| row.split_whitespace().collect::<Vec<_>>())
        .find(|row| row[4].starts_with(socket.to_str().unwrap()));
    row.unwrap()[2].parse().unwrap()
}

/// Has a container run whose call comes while no daemon runs; gives what it printed, or nothing if containerd gave up.
fn run_across_a_gap(node: &mut Node, reference: &str) -> Option<String> {
    node.slipwayd.kill();
    let socket = node.slipwayd.socket();
    let id = node.scene.unique("waits");
    let argv = ["/bin/cat", "/data/greeting"];
    let mut run = Call::start(node.containerd.run_command(reference, SNAPSHOTTER, &id, &argv));
    wait::until(PATIENCE, "containerd to dial, or to give up", || {
        (queued(&socket) > 0 || !run.is_waiting()).then_some(())
    })
    .unwrap();
    let was_waiting = run.is_waiting();
    node.slipwayd.start_again().unwrap();
    run.end().filter(|_| was_waiting)
}

#[test]
fn calls_wait_while_no_daemon_runs() {
    let mut node = node_on("auto");
    let reference = pull(&node);
    // Containerd 1.6 takes a server that does not greet it within about a second for unavailable, and a machine may be
    // so busy that no start is that fast.
    let said = (0..CALLS).find_map(|_| run_across_a_gap(&mut node, &reference));
    assert_eq!(said.as_deref().map(str::trim_end), Some(GREETING));
    // A client with more patience waits as long as it takes.
    node.slipwayd.kill();
    let socket = node.slipwayd.socket();
    let stat = std::thread::spawn(move || Client::connect(&socket)?.cleanup());
    let socket = node.slipwayd.socket();
    wait::until(PATIENCE, "the client to dial", || {
        (queued(&socket) > 0).then_some(())
    })
    .unwrap();
    node.slipwayd.start_again().unwrap();
    stat.join().unwrap().unwrap();
}

#[rstest]
#[case("erofs")]
#[case("fuse")]
fn containers_outlive_a_daemon_that_is_stopped(#[case] tier: &'static str) {
    let mut node = node_on(tier);
    let reference = pull(&node);
    let container = sleeper(&node, &reference);
    let process = task(&node, &container);
    let keeper = node.slipwayd.keeper().unwrap();
    let before = mounts::under(node.slipwayd.dir()).unwrap();
    node.slipwayd.end().unwrap();
    assert_eq!(mounts::under(node.slipwayd.dir()).unwrap(), before);
    assert_eq!(node.slipwayd.keeper().unwrap(), keeper);
    node.slipwayd.start_again().unwrap();
    assert_eq!(
        exec(&node, &container, &["/bin/cat", "/data/greeting"]).unwrap(),
        GREETING
    );
    assert_eq!(task(&node, &container), process);
    assert_eq!(
        node.run(&reference, &["/bin/cat", "/data/greeting"]).unwrap(),
        GREETING
    );
    assert_eq!(mounts::under(node.slipwayd.dir()).unwrap(), before);
}

#[test]
fn signals_to_the_group_of_a_daemon_spare_its_keeper() {
    let mut stage = Stage::start("auto");
    let node = &mut stage.node;
    let keeper = node.slipwayd.keeper().unwrap();
    let process = |id: u32| Pid::from_raw(id.cast_signed()).unwrap();
    let group = |id: u32| getpgid(Some(process(id))).unwrap();
    assert_eq!(
        group(node.slipwayd.id()),
        process(node.slipwayd.id()),
        "it leads its group"
    );
    assert_ne!(group(node.slipwayd.id()), group(keeper));
    // This kills the group.
    node.slipwayd.kill();
    assert_eq!(node.slipwayd.keeper().unwrap(), keeper);
    node.slipwayd.start_again().unwrap();
    assert_eq!(node.slipwayd.keeper().unwrap(), keeper);
    stage.reads_truly();
}

/// Descriptors of a daemon and its keeper, mounts, and the daemon's heap in KiB.
fn state(node: &Node) -> ((usize, usize, usize), u64) {
    let process = |id: u32| PathBuf::from(format!("/proc/{id}"));
    let descriptors = |id: u32| process(id).join("fd").read_dir().unwrap().count();
    let status = std::fs::read_to_string(process(node.slipwayd.id()).join("status")).unwrap();
    let heap = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let heap = heap.unwrap().split_whitespace().next().unwrap().parse().unwrap();
    let counts = (
        descriptors(node.slipwayd.id()),
        descriptors(node.slipwayd.keeper().unwrap()),
        mounts::under(node.scene.dir()).unwrap().len(),
    );
    (counts, heap)
}

#[rstest]
#[case("erofs")]
#[case("fuse")]
fn adoptions_leak_nothing(#[case] tier: &'static str) {
    let mut stage = Stage::start(tier);
    let mut states = Vec::new();
    for number in 0..ADOPTIONS {
        // Both ways to go, one after the other.
        match number % 2 {
            0 => stage.node.slipwayd.kill(),
            _ => stage.node.slipwayd.end().unwrap(),
        }
        stage.node.slipwayd.start_again().unwrap();
        stage.reads_truly();
        states.push(state(&stage.node));
    }
    let (first, last) = (states[SETTLED], states[ADOPTIONS - 1]);
    // Each daemon is another process, whose heap has what its readers happened to need at the same time.
    let heap = |states: &[((usize, usize, usize), u64)]| {
        let heaps: Vec<_> = states.iter().map(|(_, heap)| *heap).collect();
        (
            heaps.iter().copied().min().unwrap(),
            heaps.iter().copied().max().unwrap(),
        )
    };
    let (early, late) = (heap(&states[..SETTLED]), heap(&states[ADOPTIONS - SETTLED..]));
    say(&format!(
        "{tier}: {ADOPTIONS} adoptions: descriptors of the daemon, of the keeper, and mounts {:?}, then {:?}; heap {early:?}, \
         then {late:?} KiB",
        first.0, last.0
    ));
    // Connections to the registry come and go.
    assert!(last.0.0 <= first.0.0 + CONNECTIONS, "{states:?}");
    assert_eq!((last.0.1, last.0.2), (first.0.1, first.0.2), "{states:?}");
    assert!(late.0 <= early.1 + HEAP_KIB, "{states:?}");
}

#[rstest]
#[case("erofs")]
#[case("fuse")]
fn without_daemon_and_keeper_readers_get_errors_and_the_next_start_recovers(#[case] tier: &'static str) {
    let mut stage = Stage::start(tier);
    let reference = pull(&stage.node);
    let container = sleeper(&stage.node, &reference);
    let under_way = stage.readers();
    kill_both(&mut stage.node);
    for reader in under_way {
        let way = reader.way;
        // None: a fault in mapped memory ended it, as it must where bytes cannot be had.
        let wrong = reader.end().map_or(0, |report| report.wrong_count);
        assert_eq!(wrong, 0, "{way:?} saw wrong bytes");
    }
    for way in [Way::Direct, Way::Mapped, Way::Walk] {
        let report = stage.reader(way).end();
        let failed = report.is_none_or(|report| report.error_count > 0 && report.wrong_count == 0);
        assert!(failed, "{way:?} got no error");
    }

    stage.node.slipwayd.start_again().unwrap();
    stage.mount_again();
    stage.reads_truly();
    // The container that ran stands on the mount that is gone; started again, it finds its root.
    let ctr = |arguments: &[&str]| process::run(stage.node.containerd.ctr().args(arguments)).unwrap();
    ctr(&["tasks", "rm", "--force", &container]);
    ctr(&["tasks", "start", "--detach", &container]);
    let said = exec(&stage.node, &container, &["/bin/cat", "/data/greeting"]).unwrap();
    assert_eq!(said, GREETING);
}

/// Kills the keeper and then the daemon, so that nobody has the connection any more.
fn kill_both(node: &mut Node) {
    let keeper = node.slipwayd.keeper().unwrap();
    kill_process(Pid::from_raw(keeper.cast_signed()).unwrap(), Signal::KILL).unwrap();
    node.slipwayd.kill();
    wait::until(PATIENCE, "the keeper's end", || node.slipwayd.keeper().err()).unwrap();
}
