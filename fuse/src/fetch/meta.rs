//! The chunk infos of a blob with shared units: where they lie, whether what came is what was announced, and bringing
//! them on the first miss, once for all readers of an image.
//!
//! Nothing of what is read depends on them being right, since every chunk has a digest of its own; checking them early
//! tells a damaged transfer, which is worth another try, from a damaged chunk.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use futures::StreamExt;
use rafs::blob::{MetaError, Toc};
use rafs::image::Blob;

use super::Error;
use super::attempt::Charted;
use super::flight::{Boarding, Lead};
use super::queue::Class;
use super::supply::{Lot, Supply};
use super::task::unless_silent;
use super::units::UnitMap;
use crate::cache::BlobId;
use crate::cache::meta::MetaPlace;

/// Most bytes fetched for the chunk infos of one blob; more than the format's reader expands.
const FETCH_MAX: u64 = 256 << 20;

/// Sections that hold the chunk infos and their header.
const SECTIONS: [&str; 2] = ["blob.meta", "blob.meta.header"];

type Landing = Result<Arc<UnitMap>, Arc<Error>>;

/// What to fetch, and how it shows that it is the right thing.
#[derive(Debug)]
struct Request {
    place: MetaPlace,
    /// What to fetch: the place, with the proof around it.
    range: Range<u64>,
    proof: Proof,
}

#[derive(Debug, PartialEq, Eq)]
enum Proof {
    /// The whole file was fetched, and its name is its digest.
    Name,
    /// The range ends with the file's table of contents, whose digest the image knows.
    Toc([u8; 32]),
    /// The image knows no digest.
    None,
}

impl Request {
    fn of(blob: &Blob) -> Result<Self, Error> {
        let (id, range) = blob.meta_range();
        let corrupt = |what| MetaError::Corrupt { what, offset: 0 };
        let id = BlobId::parse(id).ok_or(corrupt("the blob of the chunk infos is not named by a sha256"))?;
        let request = |range, proof| Request {
            place: MetaPlace {
                blob: id,
                range: blob.meta_range().1,
            },
            range,
            proof,
        };
        let proven = match &blob.meta_blob {
            Some(meta_blob) => (0..meta_blob.size, Proof::Name),
            None if blob.toc.size > 0 => (range.start..blob.compressed_size, Proof::Toc(blob.toc.digest)),
            None => (0..0, Proof::None),
        };
        let (around, proof) = proven;
        if around.start <= range.start && around.end >= range.end && around.end - around.start <= FETCH_MAX {
            return Ok(request(around, proof));
        }
        let len = range.end.saturating_sub(range.start);
        if len > FETCH_MAX {
            let limit = FETCH_MAX;
            return Err(MetaError::TooLarge { len, limit }.into());
        }
        Ok(request(range, Proof::None))
    }

    /// Takes the stored chunk infos out of what came.
    fn open<'a>(&self, fetched: &'a [u8]) -> Result<&'a [u8], Error> {
        let stored = self.cut(fetched, &self.place.range);
        let stored = stored.ok_or(Error::Short { missing: 1 })?;
        let is_proven = match self.proof {
            Proof::None => true,
            Proof::Name => BlobId::of(fetched) == self.place.blob,
            Proof::Toc(digest) => {
                let toc = Toc::read(fetched, self.range.end)?;
                let is_whole = SECTIONS.iter().all(|name| {
                    let section = toc.section(name);
                    section.is_some_and(|section| {
                        let bytes = self.cut(fetched, &section.range);
                        bytes.is_some_and(|bytes| section.expand(bytes).is_ok())
                    })
                });
                toc.digest == digest && is_whole
            }
        };
        is_proven.then_some(stored).ok_or(Error::MetaDigest)
    }

    fn cut<'a>(&self, fetched: &'a [u8], range: &Range<u64>) -> Option<&'a [u8]> {
        let at = |offset: u64| usize::try_from(offset.checked_sub(self.range.start)?).ok();
        fetched.get(at(range.start)?..at(range.end)?)
    }
}

impl Supply {
    /// Learns the units of a blob, from its chunk infos if it takes those.
    pub(super) async fn chart(self: &Arc<Self>, lot: &Arc<Lot>) -> Result<Charted, Arc<Error>> {
        let charted = |map| Charted {
            lot: lot.clone(),
            map,
        };
        if let Some(map) = lot.map.get() {
            return Ok(charted(map.clone()));
        }
        let follow = match self.metas.board(&lot.index, self.spec.image, Class::Fault) {
            Boarding::Follow(follow) => follow,
            Boarding::Lead(lead) => {
                let follow = lead.follow(self.spec.image);
                let (supply, lot) = (self.clone(), lot.clone());
                self.engine.spawn(async move { supply.bring(lot, lead).await });
                follow
            }
        };
        // The leader's task only ends without a landing when the engine is closed.
        let landing = follow
            .wait()
            .await
            .unwrap_or_else(|| Err(Arc::new(Error::Closed)));
        landing.map(charted)
    }

    /// Brings the chunk infos of a blob from the cache, or from the source.
    async fn bring(self: Arc<Self>, lot: Arc<Lot>, lead: Lead<rafs::BlobIndex, Landing>) {
        let request = match Request::of(&lot.info) {
            Ok(request) => request,
            Err(error) => return lead.land(Err(Arc::new(error))),
        };
        let (supply, cached) = (self.clone(), lot.clone());
        let place = request.place.clone();
        let kept = tokio::task::spawn_blocking(move || {
            let stored = cached.blob.meta(&place)?;
            supply.map(&cached, &stored).ok()
        });
        // It may have landed between the look at the map and the boarding.
        if let Some(map) = lot.map.get().cloned().or(kept.await.ok().flatten()) {
            return lead.land(Ok(map));
        }
        let attempt = tokio::time::timeout(self.engine.read_deadline, self.download(&request));
        let fetched = attempt
            .await
            .unwrap_or_else(|_| Err(Error::Stalled(self.engine.read_deadline)));
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(error) => return lead.land(Err(Arc::new(error))),
        };
        let supply = self.clone();
        self.engine.spawn_blocking(move || {
            let opened = request.open(&fetched).and_then(|stored| {
                let map = supply.map(&lot, stored)?;
                lot.blob.keep_meta(&request.place, stored);
                Ok(map)
            });
            lead.land(opened.map_err(|error| {
                tracing::warn!(blob = %request.place.blob, %error, "a source gave bad chunk infos");
                Arc::new(error)
            }));
        });
    }

    async fn download(&self, request: &Request) -> Result<BytesMut, Error> {
        let len = request.range.end - request.range.start;
        let _permit = self
            .lane
            .enter(Class::Fault, len)
            .come()
            .await
            .ok_or(Error::Closed)?;
        let id = request.place.blob.to_string();
        self.cost.requests.fetch_add(1, Ordering::Relaxed);
        let stall = self.engine.stall();
        let opening = self.spec.source.read(&id, request.range.clone());
        let mut body = unless_silent(stall, opening).await?.map_err(Error::Source)?;
        let mut fetched = BytesMut::new();
        while (fetched.len() as u64) < len {
            let Some(bytes) = unless_silent(stall, body.next()).await? else {
                return Err(Error::Short { missing: 1 });
            };
            let bytes = bytes.map_err(Error::Source)?;
            self.cost.count(Class::Fault, bytes.len());
            fetched.extend_from_slice(&bytes);
        }
        Ok(fetched)
    }

    fn map(&self, lot: &Lot, stored: &[u8]) -> Result<Arc<UnitMap>, MetaError> {
        let chunks = (0..lot.info.chunk_count).filter_map(|number| (self.spec.table)(lot.index, number));
        let map = UnitMap::shared(&lot.info, stored, chunks)?;
        Ok(lot.map.get_or_init(|| Arc::new(map)).clone())
    }
}

#[cfg(test)]
mod tests;
