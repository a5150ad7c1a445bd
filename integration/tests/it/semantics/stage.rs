//! An image that is served, and where it comes from.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use fuse::{CacheStatus, ImageStatus};
use integration::image::single::{FILE_NAME, Single};
use integration::origin::Origin;
use integration::scene::Scene;
use integration::served::{ID, ServedImage, Terms};
use proto::image::{ImageSource, Location, Options};
use proto::registry::Network;
use rustix::fs::Advice;

use super::outcome::{AT_DEADLINE, AT_ONCE, BYTES, EIO, IN_TIME, NO, NOTHING, Outcome, YES, counted};

/// Short, so that tests are; long enough for a busy machine to fail at once well before.
pub(super) const DEADLINE: Duration = Duration::from_secs(8);
/// What a read may take beyond its deadline before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of a chunk.
pub(super) const CHUNK_LEN: usize = 64 << 10;
/// Bytes of the file.
pub(super) const LEN: usize = 12 << 20;
/// Places in the file so far from each other that what is read at one brings nothing of the others.
pub(super) const PLACES: [usize; 3] = [0, 4 << 20, 8 << 20];
/// Requests of the kernel for a page that cannot be had: one ahead of the reader, one for it.
const KERNEL_TRIES: usize = 2;

/// The image of all cases.
pub(super) static IMAGE: LazyLock<Single> = LazyLock::new(|| Single::make(LEN, CHUNK_LEN).unwrap());

/// An image on a node of its own. Fields are dropped in this order.
pub(super) struct Stage {
    image: &'static Single,
    pub(super) served: ServedImage,
    pub(super) scene: Arc<Scene>,
}

/// What a reader saw, and when.
pub(super) struct Reading {
    pub(super) result: std::io::Result<()>,
    pub(super) elapsed: Duration,
}

/// Numbers at one moment.
pub(super) type Counts = (ImageStatus, CacheStatus);

/// The terms of all cases, unless they say otherwise.
pub(super) fn terms() -> Terms {
    Terms {
        read_deadline: DEADLINE,
        ..Terms::default()
    }
}

/// The image at a registry that is reached directly.
pub(super) fn source(host: &str) -> Arc<ImageSource> {
    source_by(host, None)
}

/// The image at a registry whose mirrors are in a folder.
pub(super) fn source_by(host: &str, hosts_dir: Option<PathBuf>) -> Arc<ImageSource> {
    let options = Options {
        plain_http: true,
        network: Arc::new(Network::new(hosts_dir)),
        ..Options::default()
    };
    let location: Location = format!("docker://{host}/image:1").parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let source = runtime.block_on(ImageSource::open(&location, &options));
    Arc::new(source.unwrap())
}

/// An origin that has the blob of the image.
pub(super) fn origin() -> Origin {
    Origin::start(&IMAGE.blob).unwrap()
}

impl Stage {
    /// Serves the image from an origin.
    pub(super) fn of(origin: &Origin) -> Self {
        Self::from(source(&origin.address().to_string()))
    }

    /// Serves the image from any source.
    pub(super) fn from(source: Arc<ImageSource>) -> Self {
        let scene = Arc::new(Scene::create().unwrap());
        let dir = scene.folder("served").unwrap();
        Self::at(scene, &dir, &terms(), &IMAGE, source)
    }

    /// Serves the image with mounts and cache in a folder, which may have been used before.
    pub(super) fn at(
        scene: Arc<Scene>,
        dir: &Path,
        terms: &Terms,
        image: &'static Single,
        source: Arc<ImageSource>,
    ) -> Self {
        let mut stage = Self::empty(scene, dir, terms);
        stage.image = image;
        stage.add(source);
        stage
    }

    /// A node without images.
    pub(super) fn empty(scene: Arc<Scene>, dir: &Path, terms: &Terms) -> Self {
        let served = ServedImage::node(terms, dir).unwrap();
        Stage {
            image: &IMAGE,
            served,
            scene,
        }
    }

    /// Adds the image to a node without images.
    pub(super) fn add(&self, source: Arc<ImageSource>) {
        let bootstrap = self.scene.path("bootstrap").unwrap();
        std::fs::write(&bootstrap, &self.image.bootstrap).unwrap();
        self.served.add(ID, &bootstrap, source).unwrap();
    }

    pub(super) fn file(&self) -> PathBuf {
        self.served.point().join(FILE_NAME)
    }

    pub(super) fn counts(&self) -> Counts {
        (self.served.status(), self.served.server().cache_meter().status())
    }

    /// Reads one page. Ends the test if the read hangs.
    pub(super) fn read(&self, place: usize) -> Reading {
        read_page(&self.file(), place, self.image.content())
    }

    /// Reads everything, past the page cache, and gives what of the source that took.
    pub(super) fn read_all(&self) -> std::io::Result<u64> {
        let file = File::open(self.file())?;
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
        let before = self.served.status().bytes_fetched;
        let content = std::fs::read(self.file())?;
        assert!(content == self.image.content(), "wrong bytes");
        Ok(self.served.status().bytes_fetched - before)
    }

    /// An outcome, save for what is remembered.
    pub(super) fn judge(&self, reading: &Reading, requests: usize, before: &Counts) -> Outcome {
        let after = self.counts();
        let (sees, when, once) = match &reading.result {
            Ok(()) => (BYTES, IN_TIME, 1),
            Err(_) if reading.elapsed * 2 >= DEADLINE => (EIO, AT_DEADLINE, KERNEL_TRIES),
            Err(_) => (EIO, AT_ONCE, KERNEL_TRIES),
        };
        Outcome {
            sees: sees.to_owned(),
            when: when.to_owned(),
            again: if requests > once { YES } else { NO }.to_owned(),
            counted: counted((&before.0, &before.1), (&after.0, &after.1)),
            remembered: String::new(),
        }
    }

    /// What is remembered of a failure whose cause is gone: nothing if a read has its bytes at the first request.
    pub(super) fn remembered(&self, place: usize) -> &'static str {
        let before = self.served.status().read_errors;
        let reading = self.read(place);
        let is_right = reading.result.is_ok() && self.served.status().read_errors == before;
        if is_right { NOTHING } else { "the failure" }
    }
}

/// Reads one page of a file, without read-ahead.
pub(super) fn read_page(path: &Path, place: usize, content: &'static [u8]) -> Reading {
    let (sender, receiver) = mpsc::channel();
    let path = path.to_owned();
    let reader = std::thread::spawn(move || {
        let began = Instant::now();
        let read = || {
            let file = File::open(&path)?;
            rustix::fs::fadvise(&file, 0, None, Advice::Random)?;
            let mut page = [0; 4096];
            file.read_exact_at(&mut page, place as u64)?;
            assert!(page == content[place..][..page.len()], "wrong bytes");
            Ok(())
        };
        let result = read();
        // The receiver is gone if the test has failed meanwhile.
        let _ = sender.send(Reading {
            result,
            elapsed: began.elapsed(),
        });
    });
    let reading = receiver.recv_timeout(DEADLINE + PATIENCE);
    let reading = reading.expect("the read ends by itself, with the right bytes or none");
    reader.join().unwrap();
    if let Err(error) = &reading.result {
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
    }
    reading
}
