//! Registries that die and blobs that rot: errors come in time, wrong bytes never.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use integration::image::edge::noise;
use integration::image::layer::{Entry, Kind};
use integration::image::layout::{Compression, Layout};
use integration::registry::Registry;
use integration::scene::Scene;
use integration::slipway::{convert, oci};
use integration::slipwayd::ImageMount;
use integration::wait;

/// Short, so that the test is; long enough for a read on a busy machine.
const READ_DEADLINE: Duration = Duration::from_secs(6);
/// What a read may take beyond its deadline before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(60);
/// Chunk size of the converter.
const CHUNK_LEN: u64 = 1 << 20;
/// Size of the file that is read: enough chunks that no read-ahead takes them all.
const FILE_LEN: usize = 32 << 20;

/// An image with one large file of noise, converted into the registry; gives its name and the noise.
fn offer(scene: &Scene, registry: &Registry) -> (String, Vec<u8>) {
    let content = noise(FILE_LEN, 42);
    let dir = scene.dir().join("layout");
    let mut layout = Layout::create(&dir).unwrap();
    let layer = layout
        .layer(Compression::None, |tar| {
            tar.append(&Entry::new("file", Kind::File(&content)))
        })
        .unwrap();
    layout.image("noise:1", &[layer], &["/bin/true"]).unwrap();
    let image = format!("docker://{}", registry.reference("noise:rafs"));
    convert(&oci(&dir, "noise:1"), &image).unwrap();
    (image, content)
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

#[test]
fn dead_registry_gives_an_error_in_time_and_works_again_when_it_is_back() {
    let scene = Scene::create().unwrap();
    let mut registry = Registry::start(&scene).unwrap();
    let (image, content) = offer(&scene, &registry);
    let mount = ImageMount::start(&scene, "mnt", &image, READ_DEADLINE).unwrap();
    assert!(read_chunk(mount.point(), 0).unwrap() == expected(&content, 0));
    registry.kill();
    let (sender, receiver) = std::sync::mpsc::channel();
    let root = mount.point().to_owned();
    let reader = std::thread::spawn(move || sender.send(read_chunk(&root, 20)));
    let answer = receiver.recv_timeout(PATIENCE).expect("the read ends by itself");
    reader.join().unwrap().unwrap();
    assert_eq!(answer.unwrap_err().raw_os_error(), Some(libc::EIO));
    // What is here already does not need the registry.
    assert!(read_chunk(mount.point(), 0).unwrap() == expected(&content, 0));
    registry.restart().unwrap();
    let chunk = wait::until(PATIENCE, "reads to work again", || {
        read_chunk(mount.point(), 20).ok()
    })
    .unwrap();
    assert!(chunk == expected(&content, 20));
    mount.stop().unwrap();
}

#[test]
fn flipped_byte_is_never_served() {
    let scene = Scene::create().unwrap();
    let mut registry = Registry::start(&scene).unwrap();
    let (image, content) = offer(&scene, &registry);
    let blob = largest_blob(&scene, &registry);
    let at = 20 * CHUNK_LEN + 12_345;
    flip(&blob, at);
    // The registry may hold the old bytes in memory.
    registry.restart().unwrap();
    let mount = ImageMount::start(&scene, "mnt", &image, READ_DEADLINE).unwrap();
    let mut refused = 0;
    for number in 0..FILE_LEN as u64 / CHUNK_LEN {
        match read_chunk(mount.point(), number) {
            Ok(chunk) => assert!(chunk == expected(&content, number), "chunk {number} is wrong"),
            Err(error) => {
                assert_ne!(error.kind(), ErrorKind::UnexpectedEof, "chunk {number} is short");
                refused += 1;
            }
        }
    }
    // The damaged chunk, and at most its neighbour where a read spans both.
    assert!((1..=2).contains(&refused), "{refused} chunks were refused");
    mount.stop().unwrap();
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
