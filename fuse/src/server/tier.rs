//! The two ways for images to reach the kernel, which of them a node can go, and which an image goes.
//!
//! | tier | names, attributes, cached pages | other reads |
//! |---|---|---|
//! | `erofs` | the kernel's EROFS, mounted from the bootstrap | EROFS reads a file of `blobs/` through FUSE, or the cache's file where that is whole |
//! | `fuse` | kept by the kernel as long as it likes | a file of `images/` through FUSE |
//!
//! What the kernel can do is found out by mounting a tiny image, not by its version.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Error, ImageId, ImageSpec, ServerConfig};
use crate::erofs::{self, Parts, probe};
use crate::image::{DeviceFiles, Served};
use crate::server::spec::IMAGE_ID_END;

/// Number of the image that is only there to try the kernel.
const PROBE: ImageId = ImageId(IMAGE_ID_END);

/// Which way images are to reach the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataPath {
    /// EROFS where it works, else FUSE; for each image.
    #[default]
    Auto,
    /// EROFS only: an image that it refuses is not served.
    Erofs,
    /// FUSE only.
    Fuse,
}

/// The way an image reaches the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// A mount of the kernel's EROFS.
    Erofs,
    /// The whole tree through FUSE.
    Fuse,
}

/// A tier, and why it is this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierChoice {
    /// The tier.
    pub tier: Tier,
    /// Why, in one sentence without a full stop.
    pub reason: String,
}

impl TierChoice {
    fn fuse(reason: impl Into<String>) -> Self {
        TierChoice {
            tier: Tier::Fuse,
            reason: reason.into(),
        }
    }
}

/// The choice of a node, and the mounts that follow from it.
pub(super) struct Tiers {
    wish: DataPath,
    choice: Mutex<TierChoice>,
    dir: PathBuf,
    /// Bootstrap of the probe, on the disk of the cache: the kernel mounts no file of a tmpfs.
    probe_file: PathBuf,
    /// Whether the kernel reads devices past the page cache of their own files.
    is_direct: AtomicBool,
    shown: Mutex<BTreeMap<ImageId, TierChoice>>,
    /// Bootstraps of mounts that an earlier process made and this one has not shown yet.
    adopted: Mutex<BTreeMap<ImageId, PathBuf>>,
}

impl Tiers {
    /// Never mounts anything.
    pub(super) fn fuse_only(reason: &str) -> Self {
        Tiers {
            wish: DataPath::Fuse,
            choice: Mutex::new(TierChoice::fuse(reason)),
            dir: PathBuf::new(),
            probe_file: PathBuf::new(),
            is_direct: AtomicBool::new(false),
            shown: Mutex::default(),
            adopted: Mutex::default(),
        }
    }

    /// Makes the folder for mounts, and mounts nothing yet.
    pub(super) fn prepare(config: &ServerConfig) -> Result<Self, Error> {
        let dir = &config.erofs_dir;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(refused(dir))?;
        Ok(Tiers {
            wish: config.data_path,
            dir: dir.canonicalize().map_err(refused(dir))?,
            probe_file: config.cache_dir.join("probe.boot"),
            is_direct: AtomicBool::new(true),
            ..Self::fuse_only("`data_path = \"fuse\"` is configured")
        })
    }

    /// Detaches what an earlier process left: it stands on a session that is dead.
    pub(super) fn detach_stale(&self) -> Result<(), Error> {
        let stale = erofs::list(&self.dir).map_err(refused(&self.dir))?;
        for (target, _) in &stale {
            erofs::detach(target).map_err(refused(target))?;
        }
        if !stale.is_empty() {
            tracing::warn!(
                count = stale.len(),
                "detached the EROFS mounts of a daemon that died"
            );
        }
        Ok(())
    }

    /// Takes over what an earlier process left: it stands on the session that goes on. Mounts of images that are not
    /// known any more are detached.
    pub(super) fn adopt(&self, is_known: impl Fn(ImageId) -> bool) -> Result<(), Error> {
        for (target, bootstrap) in erofs::list(&self.dir).map_err(refused(&self.dir))? {
            let number = target.file_name().and_then(|name| name.to_str()?.parse().ok());
            match number.map(ImageId).filter(|id| is_known(*id)) {
                Some(id) => {
                    lock(&self.adopted).insert(id, bootstrap);
                }
                None => erofs::detach(&target).map_err(refused(&target))?,
            }
        }
        Ok(())
    }

    /// Chooses the node's tier: `serve` is to serve an image, mount it, read from it and take it away again.
    pub(super) fn probe(&self, serve: impl Fn(ImageSpec) -> Result<(), String>) -> Result<(), Error> {
        if self.wish == DataPath::Fuse {
            return Ok(());
        }
        let attempt = || {
            let image = probe::Probe::new();
            std::fs::write(&self.probe_file, image.bootstrap).map_err(|error| error.to_string())?;
            serve(ImageSpec {
                id: PROBE,
                bootstrap: self.probe_file.clone(),
                source: Arc::new(image.source),
            })
        };
        let mut outcome = attempt();
        if let Err(reason) = &outcome {
            tracing::debug!(reason, "no EROFS mount that reads past the page cache");
            self.is_direct.store(false, Ordering::Relaxed);
            outcome = attempt();
        }
        std::fs::remove_file(&self.probe_file).ok();
        let reason = match (outcome, self.wish) {
            (Ok(()), DataPath::Erofs) => "`data_path = \"erofs\"` is configured, and a mount at start worked",
            (Ok(()), _) => "a mount of a test image at start worked",
            (Err(reason), DataPath::Erofs) => return Err(Error::Erofs { reason }),
            (Err(reason), _) => {
                let reason = format!("a mount of a test image at start failed: {reason}");
                *lock(&self.choice) = TierChoice::fuse(reason);
                return Ok(());
            }
        };
        *lock(&self.choice) = TierChoice {
            tier: Tier::Erofs,
            reason: reason.to_owned(),
        };
        Ok(())
    }

    /// The node's tier.
    pub(super) fn choice(&self) -> TierChoice {
        lock(&self.choice).clone()
    }

    /// The tier of an image: the node's, unless it has one of its own.
    pub(super) fn choice_of(&self, id: ImageId) -> TierChoice {
        let own = lock(&self.shown).get(&id).cloned();
        own.unwrap_or_else(|| TierChoice::fuse(self.choice().reason))
    }

    /// Where an image is mounted, if it is.
    pub(super) fn target(&self, id: ImageId) -> PathBuf {
        self.dir.join(id.0.to_string())
    }

    /// Mounts an image if that is the node's tier. Its blobs must be there, in the folder `blobs`.
    pub(super) fn show(&self, served: &Served, bootstrap: &Path, blobs: &Path) -> Result<(), Error> {
        let choice = self.choice();
        if choice.tier == Tier::Fuse || lock(&self.shown).get(&served.id).is_some_and(is_erofs) {
            return Ok(());
        }
        let adopted = lock(&self.adopted).remove(&served.id);
        match adopted {
            Some(mounted) if mounted == bootstrap => {
                lock(&self.shown).insert(served.id, choice);
                return Ok(());
            }
            Some(_) => self.hide(served.id),
            None => {}
        }
        match (self.try_show(served, bootstrap, blobs), self.wish) {
            (Ok(()), _) => {
                lock(&self.shown).insert(served.id, choice);
                Ok(())
            }
            (Err(reason), DataPath::Erofs) => Err(Error::Erofs { reason }),
            (Err(reason), _) => {
                tracing::warn!(
                    image = served.id.0,
                    reason,
                    "an image is served by FUSE, since EROFS refuses it"
                );
                lock(&self.shown).insert(served.id, TierChoice::fuse(format!("EROFS refuses it: {reason}")));
                Ok(())
            }
        }
    }

    /// Mounts an image.
    pub(super) fn try_show(&self, served: &Served, bootstrap: &Path, blobs: &Path) -> Result<(), String> {
        let DeviceFiles { paths, pins } = served
            .device_files(blobs)
            .map_err(|refusal| refusal.to_string())?;
        let target = self.target(served.id);
        match std::fs::create_dir(&target) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.to_string()),
            _ => {}
        }
        let parts = Parts {
            bootstrap,
            devices: paths,
            target: &target,
            is_direct: self.is_direct.load(Ordering::Relaxed),
        };
        let mounted = erofs::mount(&parts);
        drop(pins);
        mounted.map_err(|error| {
            std::fs::remove_dir(&target).ok();
            error.to_string()
        })
    }

    /// Takes the mount of an image out of sight. Who stands on it reads on.
    pub(super) fn hide(&self, id: ImageId) {
        lock(&self.shown).remove(&id);
        lock(&self.adopted).remove(&id);
        if self.dir.as_os_str().is_empty() {
            return;
        }
        let target = self.target(id);
        if let Err(error) = erofs::detach(&target) {
            tracing::warn!(image = id.0, %error, "an EROFS mount could not be detached");
        }
        match std::fs::remove_dir(&target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::debug!(image = id.0, %error, "the folder of an EROFS mount stays");
            }
            _ => {}
        }
    }

    /// Takes all mounts out of sight.
    pub(super) fn hide_all(&self) {
        let mut ids: Vec<_> = lock(&self.shown).keys().copied().collect();
        ids.extend(lock(&self.adopted).keys());
        for id in ids {
            self.hide(id);
        }
    }
}

/// Whether the image that was mounted to try the kernel is what it should be.
pub(super) fn read_probe(target: &Path) -> Result<(), String> {
    let read = std::fs::read(target.join(probe::FILE_NAME)).map_err(|error| format!("read: {error}"))?;
    match read == probe::content() {
        true => Ok(()),
        false => Err("a file had other content than it should".to_owned()),
    }
}

fn refused(place: &Path) -> impl Fn(io::Error) -> Error {
    move |source| Error::Io {
        what: format!("EROFS mounts at {}", place.display()),
        source,
    }
}

fn is_erofs(choice: &TierChoice) -> bool {
    choice.tier == Tier::Erofs
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
