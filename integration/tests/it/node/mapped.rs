//! Containers in user namespaces: files of the image have the ids that the namespace maps, on both data paths.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use integration::client::Client;
use integration::erofs::bootstrap_of;
use integration::image::layer::{Entry, Kind};
use integration::image::layout::{Compression, Layout};
use integration::process::text;
use integration::registry::Registry;
use integration::scene::Scene;
use integration::slipway::{convert, oci};
use integration::slipwayd::{Settings, Slipwayd};
use integration::userns::UserNamespace;
use rstest::rstest;
use snapshotter::label::{GID_MAPPING, UID_MAPPING};

/// Name of the image in its layout folder.
const TAG: &str = "mapped:1";
/// Where the namespace's ids begin on the node, and how many there are.
const FIRST: u32 = 100_000;
const COUNT: u32 = 65_536;
/// Owner of a file in the image.
const USER: u32 = 1000;
const GROUP: u32 = 50;

/// A daemon with one image.
struct Stage {
    client: Client,
    _slipwayd: Slipwayd,
    _registry: Registry,
    scene: Scene,
}

impl Stage {
    fn start(tier: &'static str, remap_ids: bool) -> Self {
        let scene = Scene::create().unwrap();
        let registry = Registry::start(&scene).unwrap();
        let [layout, converted] = ["layout", "converted"].map(|name| scene.dir().join(name));
        make(&layout);
        convert(&oci(&layout, TAG), &oci(&converted, TAG)).unwrap();
        let reference = registry.reference(TAG);
        convert(&oci(&layout, TAG), &format!("docker://{reference}")).unwrap();
        let settings = Settings {
            data_path: tier,
            remap_ids,
            ..Settings::default()
        };
        let slipwayd = Slipwayd::start(&scene, &settings).unwrap();
        let client = Client::connect(&slipwayd.socket()).unwrap();
        client
            .load("image", &reference, &bootstrap_of(&converted, TAG).unwrap())
            .unwrap();
        // Programs that are not the node's root have to get to the mounts.
        fs::set_permissions(scene.dir(), Permissions::from_mode(0o711)).unwrap();
        Stage {
            client,
            _slipwayd: slipwayd,
            _registry: registry,
            scene,
        }
    }
}

fn make(layout: &Path) {
    let mut layout = Layout::create(layout).unwrap();
    let layer = layout.layer(Compression::None, |tar| {
        tar.append(&Entry::new("roots", Kind::File(b"of root")).mode(0o600))?;
        tar.append(
            &Entry::new("users", Kind::File(b"of a user"))
                .mode(0o640)
                .owner(USER, GROUP),
        )
    });
    layout.image(TAG, &[layer.unwrap()], &["/bin/true"]).unwrap();
}

fn owner(path: &Path) -> (u32, u32) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.uid(), meta.gid())
}

#[rstest]
fn a_container_in_a_user_namespace_owns_its_files(#[values("erofs", "fuse")] tier: &'static str) {
    let stage = Stage::start(tier, true);
    let namespace = UserNamespace::start(FIRST, COUNT).unwrap();
    let labels = [UID_MAPPING, GID_MAPPING].map(|label| (label, namespace.mapping()));
    let list = stage
        .client
        .container_with("container", "image", &labels)
        .unwrap();
    let [below, point] = ["below", "rootfs"].map(|name| stage.scene.folder(name).unwrap());
    namespace.mount_overlay(&list, &below, &point).unwrap();

    let inside = |program: &str, args: &[&str]| {
        let mut command = namespace.command(program);
        text(command.args(args).current_dir(&point)).unwrap()
    };
    assert_eq!(
        inside("stat", &["-c", "%u:%g", ".", "roots", "users"]),
        "0:0\n0:0\n1000:50"
    );
    assert_eq!(inside("cat", &["roots", "users"]), "of rootof a user");
    // What the container writes and what is copied for it has the same ids as what it saw.
    inside("sh", &["-ec", "printf ' more' >> users; echo new > new"]);
    assert_eq!(inside("stat", &["-c", "%u:%g", "users", "new"]), "1000:50\n0:0");
    assert_eq!(fs::read(point.join("users")).unwrap(), b"of a user more");
    let upper = (list[0].options.iter()).find_map(|option| option.strip_prefix("upperdir="));
    let upper = Path::new(upper.unwrap());
    assert_eq!(owner(upper), (FIRST, FIRST));
    assert_eq!(owner(&upper.join("users")), (FIRST + USER, FIRST + GROUP));
    assert_eq!(owner(&upper.join("new")), (FIRST, FIRST));
}

#[test]
fn mapping_that_is_off_is_refused_and_not_forgotten() {
    let stage = Stage::start("auto", false);
    let labels = [UID_MAPPING, GID_MAPPING].map(|label| (label, "0:100000:65536"));
    let refused = stage.client.container_with("container", "image", &labels);
    let error = format!("{:#}", refused.unwrap_err());
    assert!(error.contains("hint: set overlay.remap_ids = true"), "{error}");
}
