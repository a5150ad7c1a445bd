//! Writing to containerd's content store.

use std::collections::HashMap;

use bytes::Bytes;
use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::leases_client::LeasesClient;
use containerd_client::services::v1::{
    AbortRequest, AddResourceRequest, Info, InfoRequest, Resource, UpdateRequest, WriteAction,
    WriteContentRequest,
};
use futures::StreamExt;
use oci_spec::image::Descriptor;
use proto::image::{ByteStream, ImageSource};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::Error;
use super::client::{Containerd, called, label_mask, unique};

/// Bytes in one message: far below containerd's bound of 16 MiB, far above the cost of a message.
const PIECE_LEN_MAX: usize = 1 << 20;

/// Messages made ahead of their sending: one on its way while the next is read.
const PIECE_COUNT_MAX: usize = 2;

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
    Remote(ImageSource, Box<Descriptor>),
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
    let source = body.open().await?;
    let (sender, receiver) = mpsc::channel(PIECE_COUNT_MAX);
    let requests = containerd.request(ReceiverStream::new(receiver));
    let producing = produce(&blob, &reference, source, sender, seen);
    let (produced, written) = tokio::join!(producing, write(&mut client, requests));
    match (produced, written) {
        (Ok(()), Ok(())) => Ok(()),
        // Somebody else was quicker.
        (Ok(()), Err(status)) if status.code() == Code::AlreadyExists => keep(containerd, &blob).await,
        (produced, written) => {
            // Only tidying up: an unfinished write that stays ends with its lease.
            let _ = client
                .abort(containerd.request(AbortRequest { r#ref: reference }))
                .await;
            produced?;
            written.map_err(called("store content"))
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

/// Sends a blob's messages and waits for the commit.
async fn write(
    client: &mut ContentClient<Channel>,
    requests: tonic::Request<ReceiverStream<WriteContentRequest>>,
) -> Result<(), Status> {
    let mut replies = client.write(requests).await?.into_inner();
    let mut committed = false;
    while let Some(reply) = replies.message().await? {
        committed |= reply.action() == WriteAction::Commit;
    }
    if committed {
        Ok(())
    } else {
        Err(Status::aborted("the write ended before it was committed"))
    }
}

/// Makes a blob's messages: pieces in order, then the commit. Without the commit when the source fails; ends early
/// when nobody listens any more, who then knows why.
async fn produce(
    blob: &Blob,
    reference: &str,
    mut source: ByteStream,
    messages: mpsc::Sender<WriteContentRequest>,
    seen: impl Fn(u64),
) -> Result<(), Error> {
    let message = |action: WriteAction, offset: u64| WriteContentRequest {
        action: action.into(),
        r#ref: reference.to_owned(),
        total: i64::try_from(blob.len).unwrap_or(i64::MAX),
        expected: blob.digest.clone(),
        offset: i64::try_from(offset).unwrap_or(i64::MAX),
        ..WriteContentRequest::default()
    };
    let mut offset = 0;
    while let Some(mut bytes) = source.next().await.transpose()? {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE_LEN_MAX));
            let write = WriteContentRequest {
                data: piece.to_vec(),
                ..message(WriteAction::Write, offset)
            };
            if messages.send(write).await.is_err() {
                return Ok(());
            }
            offset += piece.len() as u64;
            seen(offset);
        }
    }
    let commit = WriteContentRequest {
        labels: blob.labels.clone(),
        ..message(WriteAction::Commit, offset)
    };
    // Nobody listens: the call has failed, and says so itself.
    let _ = messages.send(commit).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn messages(
        pieces: Vec<Result<Bytes, proto::image::Error>>,
    ) -> (Result<(), Error>, Vec<WriteContentRequest>) {
        let blob = Blob {
            digest: "sha256:d".into(),
            len: 3_000_000,
            labels: [("a".to_owned(), "b".to_owned())].into(),
        };
        let source = futures::stream::iter(pieces).boxed();
        let (sender, receiver) = mpsc::channel(1);
        let producing = produce(&blob, "ref", source, sender, |_| {});
        tokio::join!(producing, ReceiverStream::new(receiver).collect())
    }

    #[tokio::test]
    async fn pieces_are_bounded_and_in_order() {
        let data: Vec<u8> = (0..3_000_000_u32).map(|index| index.to_le_bytes()[1]).collect();
        let piece = |range: std::ops::Range<usize>| Ok(Bytes::copy_from_slice(&data[range]));
        let (outcome, messages) = messages(vec![
            piece(0..0),
            piece(0..2_500_000),
            piece(2_500_000..3_000_000),
        ])
        .await;
        outcome.unwrap();
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
        let error = proto::image::Error::InvalidName {
            name: "x".into(),
            reason: "gone",
        };
        let (outcome, messages) = messages(vec![Ok(Bytes::from_static(b"x")), Err(error)]).await;
        assert!(matches!(outcome, Err(Error::Source(_))));
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0].action(), WriteAction::Write);
    }
}
