//! Registries that die and blobs that rot: errors come in time, wrong bytes never.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use integration::containerd::SNAPSHOTTER;
use integration::image::edge::noise;
use integration::image::layer::{Entry, Kind};
use integration::image::layout::{Compression, Layout};
use integration::node::{Node, Settings};
use integration::registry::Registry;
use integration::scene::Scene;
use integration::slipway::{convert, oci};
use integration::slipwayd::ImageMount;
use integration::wait;
use rstest::rstest;

/// Short, so that the test is; long enough for a read on a busy machine.
const READ_DEADLINE: Duration = Duration::from_secs(6);
/// What a read may take beyond its deadline before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(60);
/// Chunk size of the converter.
const CHUNK_LEN: u64 = 1 << 20;
/// Name of the image in its layout folder.
const TAG: &str = "noise:1";
/// Size of the file that is read: enough chunks that no read-ahead takes them all.
const FILE_LEN: usize = 32 << 20;

/// An image with one large file of noise, in the layout folder that is named; gives the noise.
fn make(dir: &Path) -> Vec<u8> {
    let content = noise(FILE_LEN, 42);
    let mut layout = Layout::create(dir).unwrap();
    let layer = layout
        .layer(Compression::None, |tar| {
            tar.append(&Entry::new("file", Kind::File(&content)))
        })
        .unwrap();
    layout.image(TAG, &[layer], &["/bin/true"]).unwrap();
    content
}

/// The image converted into the registry; gives its name and the noise.
fn offer(scene: &Scene, registry: &Registry) -> (String, Vec<u8>) {
    let dir = scene.dir().join("layout");
    let content = make(&dir);
    let image = format!("docker://{}", registry.reference("noise:rafs"));
    convert(&oci(&dir, TAG), &image).unwrap();
    (image, content)
}

/// A node whose images reach the kernel one way, with the image converted into its registry; gives its name and the
/// noise.
fn node_with_image(data_path: &'static str) -> (Node, String, Vec<u8>) {
    let settings = Settings {
        data_path,
        read_deadline: READ_DEADLINE,
        ..Settings::default()
    };
    let node = Node::start_with(Arc::new(Scene::create().unwrap()), &settings).unwrap();
    let dir = node.scene.dir().join("layout");
    let content = make(&dir);
    let reference = node.offer_converted(&dir, TAG, "noise:rafs").unwrap();
    (node, reference, content)
}

/// The root that a container of the image sees.
fn container(node: &Node, reference: &str) -> PathBuf {
    node.pull_lazily(reference).unwrap();
    let point = node.scene.folder("container").unwrap();
    node.containerd
        .mount_container(SNAPSHOTTER, "container", &point)
        .unwrap();
    point
}

/// Reads one chunk of the file.
fn read_chunk(root: &Path, number: u64) -> std::io::Result<Vec<u8>> {
    let mut chunk = vec![0; CHUNK_LEN as usize];
    File::open(root.join("file"))?.read_exact_at(&mut chunk, number * CHUNK_LEN)?;
    Ok(chunk)
}

fn expected(content: &[u8], number: u64) -> &[u8] {
    &content[(number * CHUNK_LEN) as usize..][..CHUNK_LEN as usize]
}

/// Reads while the registry is dead, and when it is back.
fn outlive_registry(root: &Path, registry: &mut Registry, content: &[u8]) {
    assert!(read_chunk(root, 0).unwrap() == expected(content, 0));
    registry.kill();
    let (sender, receiver) = std::sync::mpsc::channel();
    let reader = {
        let root = root.to_owned();
        std::thread::spawn(move || sender.send(read_chunk(&root, 20)))
    };
    let answer = receiver.recv_timeout(PATIENCE).expect("the read ends by itself");
    reader.join().unwrap().unwrap();
    assert_eq!(answer.unwrap_err().raw_os_error(), Some(libc::EIO));
    // What is here already does not need the registry.
    assert!(read_chunk(root, 0).unwrap() == expected(content, 0));
    registry.restart().unwrap();
    let chunk = wait::until(PATIENCE, "reads to work again", || read_chunk(root, 20).ok()).unwrap();
    assert!(chunk == expected(content, 20));
}

/// Damages one chunk in the registry.
fn damage(scene: &Scene, registry: &mut Registry) {
    let blob = largest_blob(scene, registry);
    flip(&blob, 20 * CHUNK_LEN + 12_345);
    // The registry may hold the old bytes in memory.
    registry.restart().unwrap();
}

/// Reads all chunks: each is right or refused.
fn refuses_only_the_damage(root: &Path, content: &[u8]) {
    let mut refused = 0;
    for number in 0..FILE_LEN as u64 / CHUNK_LEN {
        match read_chunk(root, number) {
            Ok(chunk) => assert!(chunk == expected(content, number), "chunk {number} is wrong"),
            Err(error) => {
                assert_ne!(error.kind(), ErrorKind::UnexpectedEof, "chunk {number} is short");
                refused += 1;
            }
        }
    }
    // The damaged chunk, and at most its neighbour where a read spans both.
    assert!((1..=2).contains(&refused), "{refused} chunks were refused");
}

#[test]
fn dead_registry_gives_an_error_in_time_and_works_again_when_it_is_back() {
    let scene = Scene::create().unwrap();
    let mut registry = Registry::start(&scene).unwrap();
    let (image, content) = offer(&scene, &registry);
    let mount = ImageMount::start(&scene, "mnt", &image, READ_DEADLINE).unwrap();
    outlive_registry(mount.point(), &mut registry, &content);
    mount.stop().unwrap();
}

#[rstest]
fn containers_outlive_a_dead_registry(#[values("erofs", "fuse")] tier: &'static str) {
    let (mut node, reference, content) = node_with_image(tier);
    let root = container(&node, &reference);
    outlive_registry(&root, &mut node.registry, &content);
}

#[test]
fn flipped_byte_is_never_served() {
    let scene = Scene::create().unwrap();
    let mut registry = Registry::start(&scene).unwrap();
    let (image, content) = offer(&scene, &registry);
    damage(&scene, &mut registry);
    let mount = ImageMount::start(&scene, "mnt", &image, READ_DEADLINE).unwrap();
    refuses_only_the_damage(mount.point(), &content);
    mount.stop().unwrap();
}

#[rstest]
fn flipped_byte_never_reaches_a_container(#[values("erofs", "fuse")] tier: &'static str) {
    let (mut node, reference, content) = node_with_image(tier);
    damage(&node.scene, &mut node.registry);
    let root = container(&node, &reference);
    refuses_only_the_damage(&root, &content);
}

/// The blob with the chunks: the largest file of the registry's storage that is no layer of the original (never pushed).
fn largest_blob(scene: &Scene, registry: &Registry) -> std::path::PathBuf {
    let any = registry.blob_file(&"0".repeat(64));
    let blobs = any.ancestors().nth(3).unwrap();
    assert!(blobs.starts_with(scene.dir()));
    let files = std::fs::read_dir(blobs)
        .unwrap()
        .flat_map(|shard| std::fs::read_dir(shard.unwrap().path()).unwrap());
    let data = files.map(|digest| digest.unwrap().path().join("data"));
    data.max_by_key(|path| path.metadata().unwrap().len())
        .expect("the registry has blobs")
}

fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}
