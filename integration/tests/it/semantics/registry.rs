//! Registries, mirrors and stores that fail.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use fuse::ImageId;
use integration::image::single::{FILE_NAME, Single};
use integration::origin::{Fault, Origin};
use integration::port;
use integration::scene::Scene;
use integration::wait;

use super::Case;
use super::outcome::{AT_ONCE, BYTES, NO, NOTHING, Outcome, YES};
use super::stage::{
    CHUNK_LEN, DEADLINE, IMAGE, LEN, PLACES, Stage, origin, read_page, source, source_by, terms,
};

/// How late the late answer is: more than any line.
const LATE: Duration = Duration::from_millis(300);
/// Bytes of a body before it breaks: a part of one chunk.
const BEGIN_LEN: usize = 1000;
/// How long hosts.toml may go unread.
const REREAD: Duration = Duration::from_secs(30);

/// An image of another blob.
static OTHER: LazyLock<Single> = LazyLock::new(|| Single::make(LEN + CHUNK_LEN, CHUNK_LEN).unwrap());

pub(super) const CASES: &[Case] = &[
    ("late", || lasting(Fault::Late(LATE))),
    ("unauthorized", || lasting(unauthorized())),
    ("token-outdated", token_outdated),
    ("forbidden", || lasting(status(403))),
    ("missing", || lasting(status(404))),
    ("throttled-once", throttled_once),
    ("throttled", || lasting(throttled("1"))),
    ("throttled-until-past", || {
        passing(throttled("Sun, 06 Nov 1994 08:49:37 GMT"))
    }),
    ("failing-once", || passing(status(500))),
    ("failing", || lasting(status(500))),
    ("unavailable-once", || passing(status(503))),
    ("unavailable", || lasting(status(503))),
    ("reset-once", || passing(Fault::Reset(BEGIN_LEN))),
    ("reset", || lasting(Fault::Reset(BEGIN_LEN))),
    ("short-once", || passing(Fault::Cut(BEGIN_LEN))),
    ("short", || lasting(Fault::Cut(BEGIN_LEN))),
    ("long", || lasting(Fault::Long)),
    ("other-range-once", || passing(Fault::Other)),
    ("other-range", || lasting(Fault::Other)),
    ("whole-near", || lasting(Fault::Whole)),
    ("whole-far", || lasting_at(Fault::Whole, PLACES[2])),
    ("redirect", redirect),
    ("redirect-outdated", redirect_outdated),
    ("redirect-past", redirect_past),
    ("redirect-dead-once", || {
        passing(redirect_to(port::free().unwrap()))
    }),
    ("redirect-dead", || lasting(redirect_to(port::free().unwrap()))),
    ("flipped-once", || passing(Fault::Flip)),
    ("flipped", || lasting(Fault::Flip)),
    ("stalled-once", || passing(Fault::Stall(BEGIN_LEN))),
    ("stalled", || lasting(Fault::Stall(BEGIN_LEN))),
    ("silent-once", || passing(Fault::Silent)),
    ("silent", || lasting(Fault::Silent)),
    ("no-address", no_address),
    ("refused", refused),
    ("neighbour-silent", neighbour_silent),
    ("complete", complete),
    ("mirror-lacks", || mirror(status(404))),
    ("mirror-lies", || mirror(Fault::Flip)),
];

fn status(code: u16) -> Fault {
    Fault::Status(code, Vec::new())
}

fn unauthorized() -> Fault {
    let challenge = ("WWW-Authenticate", "Basic realm=\"r\"".to_owned());
    Fault::Status(401, vec![challenge])
}

fn throttled(until: &str) -> Fault {
    Fault::Status(429, vec![("Retry-After", until.to_owned())])
}

fn redirect_to(store: std::net::SocketAddr) -> Fault {
    Fault::Redirect(format!("http://{store}/v2/image/blobs/it"))
}

/// A fault of every answer, until it is over.
fn lasting(fault: Fault) -> Outcome {
    lasting_at(fault, PLACES[0])
}

fn lasting_at(fault: Fault, place: usize) -> Outcome {
    play(usize::MAX, fault, place).0
}

/// A fault of one answer.
fn passing(fault: Fault) -> Outcome {
    play(1, fault, PLACES[0]).0
}

/// The outcome, and when requests came.
fn play(count: usize, fault: Fault, place: usize) -> (Outcome, Vec<Instant>) {
    let origin = origin();
    let stage = Stage::of(&origin);
    let before = stage.counts();
    origin.set_first(count, fault);
    let reading = stage.read(place);
    let requests = origin.take_requests();
    let mut outcome = stage.judge(&reading, requests.len(), &before);
    origin.set(Fault::None);
    let next = if reading.result.is_ok() { PLACES[1] } else { place };
    outcome.remembered = stage.remembered(next).to_owned();
    (outcome, requests.into_iter().map(|request| request.at).collect())
}

/// Waits as long as it is asked to.
fn throttled_once() -> Outcome {
    let (outcome, requests) = play(1, throttled("2"), PLACES[0]);
    assert!(requests[1] - requests[0] >= Duration::from_secs(2));
    outcome
}

fn token_outdated() -> Outcome {
    let origin = origin();
    let stage = Stage::of(&origin);
    origin.set(Fault::Token(1));
    stage.read(PLACES[0]).result.unwrap();
    origin.take_requests();
    origin.set(Fault::Token(2));
    let before = stage.counts();
    let reading = stage.read(PLACES[1]);
    let requests = origin.take_requests().len();
    let mut outcome = stage.judge(&reading, requests, &before);
    stage.read(PLACES[2]).result.unwrap();
    assert_eq!(origin.take_requests().len(), 1);
    outcome.remembered = "the new token".to_owned();
    outcome
}

fn redirect() -> Outcome {
    let (registry, store) = (origin(), origin());
    let stage = Stage::of(&registry);
    registry.set(redirect_to(store.address()));
    let before = stage.counts();
    let reading = stage.read(PLACES[0]);
    let mut outcome = stage.judge(&reading, registry.take_requests().len(), &before);
    assert_eq!(store.take_requests().len(), 1);
    stage.read(PLACES[1]).result.unwrap();
    assert_eq!(
        (store.take_requests().len(), registry.take_requests().len()),
        (1, 0)
    );
    outcome.remembered = "the address".to_owned();
    outcome
}

fn redirect_outdated() -> Outcome {
    let (registry, store) = (origin(), origin());
    let stage = Stage::of(&registry);
    registry.set(redirect_to(store.address()));
    stage.read(PLACES[0]).result.unwrap();
    registry.set(Fault::None);
    store.set(status(403));
    registry.take_requests();
    store.take_requests();
    let before = stage.counts();
    let reading = stage.read(PLACES[1]);
    let requests = registry.take_requests().len() + store.take_requests().len();
    let mut outcome = stage.judge(&reading, requests, &before);
    outcome.remembered = stage.remembered(PLACES[2]).to_owned();
    assert_eq!(store.take_requests().len(), 0);
    outcome
}

/// The store's clock is behind ours, or ours before it: the address is used once, and not again.
fn redirect_past() -> Outcome {
    let (registry, store) = (origin(), origin());
    let stage = Stage::of(&registry);
    let target = format!("http://{}/v2/image/blobs/it?Expires=1", store.address());
    registry.set(Fault::Redirect(target));
    let before = stage.counts();
    let reading = stage.read(PLACES[0]);
    let mut outcome = stage.judge(&reading, registry.take_requests().len(), &before);
    outcome.remembered = stage.remembered(PLACES[1]).to_owned();
    assert_eq!(registry.take_requests().len(), 1);
    outcome
}

/// A folder of hosts.toml files in which `registry` has this one.
fn hosts(scene: &Scene, registry: &str, text: &str) -> PathBuf {
    let dir = scene.folder("hosts").unwrap();
    let folder = scene.folder(&format!("hosts/{registry}")).unwrap();
    std::fs::write(folder.join("hosts.toml"), text).unwrap();
    dir
}

fn at(scene: Arc<Scene>, source: Arc<proto::image::ImageSource>) -> Stage {
    let dir = scene.folder("served").unwrap();
    Stage::at(scene, &dir, &terms(), &IMAGE, source)
}

/// The name of the registry leads nowhere, until it does.
fn no_address() -> Outcome {
    let origin = origin();
    let scene = Arc::new(Scene::create().unwrap());
    // So long that nobody has to be asked whether there is such a name.
    let nowhere = "n".repeat(64);
    let name = "registry.test";
    let dir = hosts(&scene, name, &format!("server = \"http://{nowhere}.test\"\n"));
    let stage = at(scene, source_by(name, Some(dir)));
    let before = stage.counts();
    let reading = stage.read(PLACES[0]);
    let mut outcome = stage.judge(&reading, usize::MAX, &before);
    let text = format!("server = \"http://{}\"\n", origin.address());
    hosts(&stage.scene, name, &text);
    wait::until(REREAD, "the address to be known", || {
        stage.read(PLACES[0]).result.ok()
    })
    .unwrap();
    outcome.remembered = stage.remembered(PLACES[1]).to_owned();
    outcome
}

/// Nobody listens, until somebody does.
fn refused() -> Outcome {
    let address = port::free().unwrap();
    let stage = Stage::from(source(&address.to_string()));
    let before = stage.counts();
    let reading = stage.read(PLACES[0]);
    let mut outcome = stage.judge(&reading, usize::MAX, &before);
    let _origin = Origin::start_at(address, &IMAGE.blob).unwrap();
    outcome.remembered = stage.remembered(PLACES[0]).to_owned();
    outcome
}

/// Another image's registry is silent while its readers wait.
fn neighbour_silent() -> Outcome {
    let (dead, healthy) = (origin(), Origin::start(&OTHER.blob).unwrap());
    let stage = Stage::of(&dead);
    dead.set(Fault::Silent);
    let bootstrap = stage.scene.path("other").unwrap();
    std::fs::write(&bootstrap, &OTHER.bootstrap).unwrap();
    let id = ImageId(2);
    let from = source(&healthy.address().to_string());
    stage.served.add(id, &bootstrap, from).unwrap();
    let path = stage.served.server().path(id).join(FILE_NAME);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| stage.read(PLACES[0]));
        wait::until(DEADLINE, "the dead registry to be asked", || {
            (!dead.take_requests().is_empty()).then_some(())
        })
        .unwrap();
        let reading = read_page(&path, PLACES[0], OTHER.content());
        reading.result.unwrap();
        assert!(!waiting.is_finished(), "it did not wait for the other's end");
        waiting.join().unwrap().result.unwrap_err();
    });
    Outcome {
        sees: BYTES.to_owned(),
        when: AT_ONCE.to_owned(),
        again: NO.to_owned(),
        counted: NOTHING.to_owned(),
        remembered: NOTHING.to_owned(),
    }
}

/// All is local; the daemon starts without anybody to ask.
fn complete() -> Outcome {
    let origin = origin();
    let from = source(&origin.address().to_string());
    let stage = Stage::of(&origin);
    stage.read_all().unwrap();
    let Stage { served, scene, .. } = stage;
    drop((served, origin));
    let dir: &Path = &scene.dir().join("served");
    let stage = Stage::at(scene.clone(), dir, &terms(), &IMAGE, from);
    let before = stage.counts();
    assert_eq!(stage.read_all().unwrap(), 0);
    let reading = stage.read(PLACES[0]);
    let mut outcome = stage.judge(&reading, 0, &before);
    outcome.when = AT_ONCE.to_owned();
    outcome.remembered = NOTHING.to_owned();
    outcome
}

/// A mirror fails, and the registry does not.
fn mirror(fault: Fault) -> Outcome {
    let (mirror, registry) = (origin(), origin());
    mirror.set(fault);
    let scene = Arc::new(Scene::create().unwrap());
    let text = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\ncapabilities = [\"pull\"]\n",
        registry.address(),
        mirror.address()
    );
    let name = "registry.test";
    let dir = hosts(&scene, name, &text);
    let stage = at(scene, source_by(name, Some(dir)));
    let before = stage.counts();
    let reading = stage.read(PLACES[0]);
    let requests = mirror.take_requests().len() + registry.take_requests().len();
    let mut outcome = stage.judge(&reading, requests, &before);
    assert_eq!(outcome.again, YES);
    stage.read(PLACES[1]).result.unwrap();
    assert_eq!(
        (mirror.take_requests().len(), registry.take_requests().len()),
        (0, 1)
    );
    outcome.remembered = "the mirror, for this blob".to_owned();
    outcome
}
