//! Writing to containerd's content store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::leases_client::LeasesClient;
use containerd_client::services::v1::{
    AbortRequest, AddResourceRequest, Info, InfoRequest, Resource, UpdateRequest, WriteAction,
    WriteContentRequest,
};
use futures::{Stream, StreamExt};
use oci_spec::image::Descriptor;
use proto::image::{ByteStream, ImageSource};
use tonic::Code;

use super::Error;
use super::client::{Containerd, called, label_mask, unique};

/// Bytes in one message: far below containerd's bound of 16 MiB, far above the cost of a message.
const PIECE_LEN_MAX: usize = 1 << 20;

/// A blob to be stored.
#[derive(Debug, Clone)]
pub(super) struct Blob {
    /// Its digest, which containerd checks.
    pub(super) digest: String,
    /// Its length.
    pub(super) len: u64,
    /// Labels it shall have.
    pub(super) labels: HashMap<String, String>,
}

/// Where a blob's bytes are.
pub(super) enum Body {
    /// Here.
    Bytes(Bytes),
    /// In the image's place.
    Remote(ImageSource, Descriptor),
}

impl Body {
    async fn open(&self) -> Result<ByteStream, Error> {
        match self {
            Self::Bytes(bytes) => Ok(futures::stream::iter([Ok(bytes.clone())]).boxed()),
            Self::Remote(source, descriptor) => Ok(source.blob(descriptor).await?),
        }
    }
}

/// Stores a blob, unless it is there: then its body is not touched. `seen` hears how many bytes are in.
pub(super) async fn store(
    containerd: &Containerd,
    blob: Blob,
    body: &Body,
    seen: impl Fn(u64) + Send + 'static,
) -> Result<(), Error> {
    let mut client = ContentClient::new(containerd.channel.clone());
    let info = InfoRequest {
        digest: blob.digest.clone(),
    };
    match client.info(containerd.request(info)).await {
        Ok(_) => return keep(containerd, &blob).await,
        Err(status) if status.code() == Code::NotFound => {}
        Err(status) => return Err(called("look for content")(status)),
    }
    let reference = format!("slipwayd-{}-{}", unique(), blob.digest);
    let failure = Failure::default();
    let requests = requests(&blob, reference.clone(), body.open().await?, failure.clone());
    let watched = requests.inspect(move |request| seen(u64::try_from(request.offset).unwrap_or(0)));
    let outcome = write(&mut client, containerd, watched).await;
    match (failure.take(), outcome) {
        (None, Ok(())) => Ok(()),
        // Somebody else was quicker.
        (None, Err(status)) if status.code() == Code::AlreadyExists => keep(containerd, &blob).await,
        (failure, outcome) => {
            // Only tidying up: an unfinished write that stays ends with its lease.
            let _ = client
                .abort(containerd.request(AbortRequest { r#ref: reference }))
                .await;
            let refused = || called("store content")(outcome.err().unwrap_or_else(unfinished));
            Err(failure.map_or_else(refused, Error::from))
        }
    }
}

/// Puts a blob that is there under the lease and adds the labels.
async fn keep(containerd: &Containerd, blob: &Blob) -> Result<(), Error> {
    if let Some(id) = containerd.lease() {
        let resource = Resource {
            id: blob.digest.clone(),
            r#type: "content".to_owned(),
        };
        let request = AddResourceRequest {
            id,
            resource: Some(resource),
        };
        let reply = LeasesClient::new(containerd.channel.clone())
            .add_resource(containerd.request(request))
            .await;
        reply.map_err(called("put content under the lease"))?;
    }
    if blob.labels.is_empty() {
        return Ok(());
    }
    let info = Info {
        digest: blob.digest.clone(),
        labels: blob.labels.clone(),
        ..Info::default()
    };
    let request = UpdateRequest {
        info: Some(info),
        update_mask: Some(label_mask(&blob.labels)),
    };
    let reply = ContentClient::new(containerd.channel.clone())
        .update(containerd.request(request))
        .await;
    reply.map(drop).map_err(called("label content"))
}

async fn write(
    client: &mut ContentClient<tonic::transport::Channel>,
    containerd: &Containerd,
    requests: impl Stream<Item = WriteContentRequest> + Send + 'static,
) -> Result<(), tonic::Status> {
    let mut replies = client.write(containerd.request(requests)).await?.into_inner();
    let mut committed = false;
    while let Some(reply) = replies.message().await? {
        committed |= reply.action() == WriteAction::Commit;
    }
    if committed { Ok(()) } else { Err(unfinished()) }
}

fn unfinished() -> tonic::Status {
    tonic::Status::aborted("containerd ended the write before it was committed")
}

/// Why the bytes stopped coming; set by the stream, read when the call is over.
#[derive(Clone, Default)]
struct Failure(Arc<Mutex<Option<proto::image::Error>>>);

impl Failure {
    fn set(&self, error: proto::image::Error) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    fn take(&self) -> Option<proto::image::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What the request stream still has to say.
struct Writing {
    blob: Blob,
    reference: String,
    source: ByteStream,
    failure: Failure,
    pending: Bytes,
    offset: u64,
}

/// The messages that write a blob: pieces in order, then the commit. Ends without it when the source fails.
fn requests(
    blob: &Blob,
    reference: String,
    source: ByteStream,
    failure: Failure,
) -> impl Stream<Item = WriteContentRequest> + Send + 'static {
    let writing = Writing {
        blob: blob.clone(),
        reference,
        source,
        failure,
        pending: Bytes::new(),
        offset: 0,
    };
    futures::stream::unfold(Some(writing), |writing| async move {
        let mut writing = writing?;
        while writing.pending.is_empty() {
            match writing.source.next().await {
                Some(Ok(bytes)) => writing.pending = bytes,
                Some(Err(error)) => {
                    writing.failure.set(error);
                    return None;
                }
                None => {
                    let labels = std::mem::take(&mut writing.blob.labels);
                    let commit = WriteContentRequest {
                        labels,
                        ..writing.message(WriteAction::Commit)
                    };
                    return Some((commit, None));
                }
            }
        }
        let piece = writing.pending.split_to(writing.pending.len().min(PIECE_LEN_MAX));
        let message = writing.message(WriteAction::Write);
        writing.offset += piece.len() as u64;
        Some((
            WriteContentRequest {
                data: piece.to_vec(),
                ..message
            },
            Some(writing),
        ))
    })
}

impl Writing {
    fn message(&self, action: WriteAction) -> WriteContentRequest {
        WriteContentRequest {
            action: action.into(),
            r#ref: self.reference.clone(),
            total: i64::try_from(self.blob.len).unwrap_or(i64::MAX),
            expected: self.blob.digest.clone(),
            offset: i64::try_from(self.offset).unwrap_or(i64::MAX),
            data: Vec::new(),
            labels: HashMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(len: u64) -> Blob {
        Blob {
            digest: "sha256:d".into(),
            len,
            labels: [("a".to_owned(), "b".to_owned())].into(),
        }
    }

    async fn messages(
        pieces: Vec<Result<Bytes, proto::image::Error>>,
        failure: &Failure,
    ) -> Vec<WriteContentRequest> {
        let source = futures::stream::iter(pieces).boxed();
        requests(&blob(3_000_000), "ref".into(), source, failure.clone())
            .collect()
            .await
    }

    #[tokio::test]
    async fn pieces_are_bounded_and_in_order() {
        let data: Vec<u8> = (0..3_000_000_u32).map(|index| index.to_le_bytes()[1]).collect();
        let pieces = vec![
            Ok(Bytes::new()),
            Ok(Bytes::copy_from_slice(&data[..2_500_000])),
            Ok(Bytes::copy_from_slice(&data[2_500_000..])),
        ];
        let messages = messages(pieces, &Failure::default()).await;
        let (commit, writes) = messages.split_last().unwrap();
        assert_eq!(
            (commit.action(), commit.offset, commit.labels.len()),
            (WriteAction::Commit, 3_000_000, 1)
        );
        let mut joined = Vec::new();
        for write in writes {
            assert_eq!(
                (write.action(), write.offset),
                (WriteAction::Write, joined.len() as i64)
            );
            assert!((1..=PIECE_LEN_MAX).contains(&write.data.len()));
            joined.extend_from_slice(&write.data);
        }
        assert!(joined == data);
    }

    #[tokio::test]
    async fn a_source_that_fails_commits_nothing() {
        let failure = Failure::default();
        let error = proto::image::Error::Io(std::io::Error::other("gone"));
        let messages = messages(vec![Ok(Bytes::from_static(b"x")), Err(error)], &failure).await;
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0].action(), WriteAction::Write);
        assert!(failure.take().is_some());
    }
}
