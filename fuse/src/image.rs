//! The images being served, and what the kernel still knows of them.
//!
//! An image that is removed disappears from lookups at once, but files of it may be open, and without OPEN requests
//! nobody says so. What the kernel does say is FORGET: it counts every inode number it was given and gives each back
//! when nothing refers to it. So a removed image is kept until the kernel has forgotten all of it. That may be long
//! after the last close, since the kernel keeps the names of files that were open then until memory is short; what is
//! kept is a mapped file and a few tables.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use rafs::{BlobIndex, ChunkRef, Image, Timestamp};

use crate::cache::blob::Pin;
use crate::cache::{BlobId, Cache, Shape, Standing};
use crate::device::{Device, Refusal};
use crate::fetch::queue::Class;
use crate::fetch::{Engine, Supply, SupplySpec};
use crate::mapping::FileMap;
use crate::server::{Error, ImageId, ImageSpec, ImageStatus};

/// What [`Images::inherit`] adds to the count of numbers that the kernel holds: more than it ever gives back.
const INHERITED: i64 = 1 << 62;

/// The names of the blobs that an image uses.
pub(crate) fn blob_ids(bootstrap: &Path) -> Result<Vec<BlobId>, Error> {
    let ids = open(bootstrap)?
        .blobs()
        .iter()
        .map(id_of)
        .collect::<Result<_, _>>();
    ids.map_err(|source| Error::Bootstrap {
        path: bootstrap.to_owned(),
        source,
    })
}

fn open(bootstrap: &Path) -> Result<Image<FileMap>, Error> {
    let map = FileMap::open(bootstrap).map_err(|source| Error::Io {
        what: format!("bootstrap {}", bootstrap.display()),
        source,
    })?;
    Image::open(map).map_err(|source| Error::Bootstrap {
        path: bootstrap.to_owned(),
        source,
    })
}

fn id_of(blob: &rafs::image::Blob) -> Result<BlobId, rafs::Error> {
    let what = "the id of a blob is not a sha256";
    BlobId::parse(&blob.id).ok_or(rafs::Error::Corrupt { what, offset: 0 })
}

/// Files for the kernel to read, one for each blob of an image.
#[derive(Default)]
pub(crate) struct DeviceFiles {
    pub(crate) paths: Vec<PathBuf>,
    /// To be kept until the kernel has opened the files.
    pub(crate) pins: Vec<Pin>,
}

/// An image that is served.
pub(crate) struct Served {
    pub(crate) id: ImageId,
    pub(crate) image: Arc<Image<FileMap>>,
    pub(crate) supply: Arc<Supply>,
    /// Its blobs as devices, once they are asked for.
    devices: OnceLock<Result<Vec<Device>, Refusal>>,
    is_removed: AtomicBool,
    /// Inode numbers the kernel holds, each as often as it was told.
    lookups: AtomicI64,
}

impl Served {
    /// Opens the bootstrap of an image and its blobs in the cache.
    pub(crate) fn open(spec: ImageSpec, cache: &Cache, engine: &Arc<Engine>) -> Result<Self, Error> {
        let ImageSpec {
            id,
            bootstrap,
            source,
        } = spec;
        let refuse = |source| Error::Bootstrap {
            path: bootstrap.clone(),
            source,
        };
        let image = Arc::new(open(&bootstrap)?);
        let blobs = image
            .blobs()
            .iter()
            .map(|blob| {
                let shape = Shape {
                    id: id_of(blob)?,
                    chunk_count: blob.chunk_count,
                    uncompressed_size: blob.uncompressed_size,
                    digester: blob.digester,
                };
                Ok((cache.blob(&shape), blob.clone()))
            })
            .collect::<Result<_, _>>()
            .map_err(refuse)?;
        let chunks = image.clone();
        let supply = Supply::new(
            engine.clone(),
            SupplySpec {
                image: id.0,
                blobs,
                table: Arc::new(move |blob, index| chunks.chunk(blob, index).ok()),
                source,
            },
        );
        Ok(Served {
            id,
            image,
            supply,
            devices: OnceLock::new(),
            is_removed: AtomicBool::new(false),
            lookups: AtomicI64::new(0),
        })
    }

    /// Its blobs as devices, in the order of the blob table.
    pub(crate) fn devices(&self) -> Result<&[Device], Refusal> {
        let blobs = || (0..).map(BlobIndex).take(self.image.blobs().len());
        let devices = self
            .devices
            .get_or_init(|| blobs().map(|blob| Device::new(&self.image, blob)).collect());
        match devices {
            Ok(devices) => Ok(devices),
            Err(refusal) => Err(*refusal),
        }
    }

    /// A file for each blob, for the kernel to read: the cache's own where all of it is there and checked, else that in
    /// the folder `blobs`.
    ///
    /// The cache's own only where the image lists every chunk of the blob: then no place is left in it where another
    /// image could keep something that this one's bootstrap might point at.
    pub(crate) fn device_files(&self, blobs: &Path) -> Result<DeviceFiles, Refusal> {
        let mut files = DeviceFiles::default();
        let devices = (0..).map(BlobIndex).zip(self.devices()?).zip(self.supply.blobs());
        for ((index, device), blob) in devices {
            // Pinned before it is looked at, so that it stays what it is found to be.
            let pin = blob.pin().filter(|_| device.is_whole());
            let mut chunks = self.image.chunks(index);
            let is_ready = |chunk: ChunkRef| blob.standing(&chunk) == Standing::Ready;
            match pin.as_ref().and_then(Pin::path) {
                Some(path) if chunks.all(|chunk| chunk.is_ok_and(is_ready)) => {
                    files.paths.push(path.to_owned());
                    files.pins.extend(pin);
                }
                _ => files.paths.push(blobs.join(self.blob_name(index))),
            }
        }
        Ok(files)
    }

    /// The name of a blob: that of its file.
    pub(crate) fn blob_name(&self, blob: BlobIndex) -> String {
        let info = self.image.blobs().get(usize::from(blob.0));
        info.map(|info| info.id.clone()).unwrap_or_default()
    }

    /// Uncompressed bytes of all blobs.
    pub(crate) fn bytes_total(&self) -> u64 {
        self.supply
            .blobs()
            .map(|blob| blob.shape().uncompressed_size)
            .fold(0, u64::saturating_add)
    }

    /// The image's numbers.
    pub(crate) fn status(&self) -> ImageStatus {
        let cost = &self.supply.cost;
        ImageStatus {
            bytes_total: self.bytes_total(),
            bytes_disk: 0,
            bytes_local: self.supply.blobs().map(|blob| blob.local_len()).sum(),
            bytes_needed: self.supply.needed_len(),
            bytes_fetched: cost.fetched(&Class::ALL),
            bytes_demand: cost.fetched(&[Class::Fault, Class::Readahead]),
            bytes_hint: cost.fetched(&[Class::Hint, Class::Weights]),
            bytes_fill: cost.fetched(&[Class::Fill]),
            blocked: cost.blocked(),
            requests: cost.requests.load(Ordering::Relaxed),
            bytes_checked: cost.checked.load(Ordering::Relaxed),
            read_errors: cost.read_errors.load(Ordering::Relaxed),
            cache_errors: self.supply.blobs().map(|blob| blob.setbacks()).sum(),
        }
    }

    fn is_listed(&self) -> bool {
        !self.is_removed.load(Ordering::Acquire)
    }

    fn is_forgotten(&self) -> bool {
        !self.is_listed() && self.lookups.load(Ordering::Acquire) <= 0
    }
}

/// All images of a session.
#[derive(Default)]
pub(crate) struct Images {
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    served: BTreeMap<u32, Arc<Served>>,
    changed: Timestamp,
}

impl Images {
    /// Finds an image by number, listed or only remembered.
    pub(crate) fn get(&self, id: u32) -> Option<Arc<Served>> {
        self.read().served.get(&id).cloned()
    }

    /// Finds an image that is listed.
    pub(crate) fn listed(&self, id: u32) -> Option<Arc<Served>> {
        self.get(id).filter(|served| served.is_listed())
    }

    /// The first listed image whose number is `from` or higher.
    pub(crate) fn listed_from(&self, from: u32) -> Option<Arc<Served>> {
        self.read()
            .served
            .range(from..)
            .map(|(_, served)| served)
            .find(|served| served.is_listed())
            .cloned()
    }

    /// All listed images.
    pub(crate) fn all(&self) -> Vec<Arc<Served>> {
        self.read()
            .served
            .values()
            .filter(|served| served.is_listed())
            .cloned()
            .collect()
    }

    /// When an image was last added or removed: strictly later with each change.
    pub(crate) fn changed(&self) -> Timestamp {
        self.read().changed
    }

    /// Lists an image again, if it is known. Returns whether it is.
    pub(crate) fn relist(&self, id: u32) -> bool {
        let mut state = self.write();
        let Some(served) = state.served.get(&id) else {
            return false;
        };
        if served.is_removed.swap(false, Ordering::AcqRel) {
            state.touch();
        }
        true
    }

    /// Lists an image. One of the same number stays what it is, and is listed again if it was removed.
    pub(crate) fn add(&self, served: impl Into<Arc<Served>>) {
        let served = served.into();
        let mut state = self.write();
        let served = state.served.entry(served.id.0).or_insert(served).clone();
        served.is_removed.store(false, Ordering::Release);
        state.touch();
    }

    /// Takes an image off the list. Returns whether it was there.
    pub(crate) fn remove(&self, id: u32) -> bool {
        let mut state = self.write();
        let Some(served) = state.served.get(&id).cloned() else {
            return false;
        };
        served.is_removed.store(true, Ordering::Release);
        state.touch();
        if served.is_forgotten() {
            state.served.remove(&id);
        }
        true
    }

    /// Notes that the kernel may hold any number of the images that are known by now: what an earlier server told it,
    /// nobody counted. Such an image is remembered as long as the server lives.
    pub(crate) fn inherit(&self) {
        for served in self.read().served.values() {
            served.lookups.fetch_add(INHERITED, Ordering::AcqRel);
        }
    }

    /// Notes that the kernel was given an inode number of the image.
    pub(crate) fn remember(&self, id: u32) {
        if let Some(served) = self.read().served.get(&id) {
            served.lookups.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Notes that the kernel gave inode numbers of the image back.
    pub(crate) fn forget(&self, id: u32, count: u64) {
        let is_forgotten = self.read().served.get(&id).is_some_and(|served| {
            served.lookups.fetch_sub(count.cast_signed(), Ordering::AcqRel);
            served.is_forgotten()
        });
        if is_forgotten {
            let mut state = self.write();
            // It may have been listed or looked up again in between.
            if state.served.get(&id).is_some_and(|served| served.is_forgotten()) {
                state.served.remove(&id);
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn touch(&mut self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = Timestamp {
            secs: now.as_secs().cast_signed(),
            nanos: now.subsec_nanos(),
        };
        // The kernel tells listings apart by this time, so two changes must never share one.
        let after = Timestamp {
            nanos: self.changed.nanos + 1,
            ..self.changed
        };
        let after = match after.nanos {
            1_000_000_000 => Timestamp {
                secs: after.secs + 1,
                nanos: 0,
            },
            _ => after,
        };
        self.changed = now.max(after);
    }
}
