//! A connection to containerd, in one namespace and under one lease.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::leases_client::LeasesClient;
use containerd_client::services::v1::{
    CreateImageRequest, CreateRequest, DeleteRequest, Image, UpdateImageRequest,
};
use containerd_client::types::Descriptor;
use prost_types::FieldMask;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::Error;

/// When a lease ends by itself, should this process die before it can end it: as containerd's own clients do.
const LEASE_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// A connection. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Containerd {
    pub(super) channel: Channel,
    namespace: MetadataValue<Ascii>,
    lease: Option<MetadataValue<Ascii>>,
}

impl Containerd {
    /// Connects to a socket.
    pub(super) async fn connect(socket: &Path, namespace: &str) -> Result<Self, Error> {
        let failed = |source| Error::Connect {
            path: socket.to_owned(),
            source,
        };
        let channel = containerd_client::connect(socket).await.map_err(failed)?;
        let namespace = header(namespace)?;
        Ok(Self {
            channel,
            namespace,
            lease: None,
        })
    }

    /// Takes a lease: what is made from now on stays until it ends.
    pub(super) async fn with_lease(mut self) -> Result<Self, Error> {
        let expiry = humantime::format_rfc3339_seconds(SystemTime::now() + LEASE_LIFE).to_string();
        let request = CreateRequest {
            id: format!("slipwayd-pull-{}", unique()),
            labels: [("containerd.io/gc.expire".to_owned(), expiry)].into(),
        };
        let reply = LeasesClient::new(self.channel.clone())
            .create(self.request(request))
            .await;
        let lease = reply
            .map_err(called("take a lease"))?
            .into_inner()
            .lease
            .unwrap_or_default();
        self.lease = Some(header(&lease.id)?);
        Ok(self)
    }

    /// Id of the lease.
    pub(super) fn lease(&self) -> Option<String> {
        self.lease.as_ref()?.to_str().ok().map(str::to_owned)
    }

    /// Ends the lease.
    pub(super) async fn release_lease(&self) -> Result<(), Error> {
        let Some(id) = self.lease() else { return Ok(()) };
        let request = DeleteRequest { id, sync: false };
        let reply = LeasesClient::new(self.channel.clone())
            .delete(self.request(request))
            .await;
        reply.map(drop).map_err(called("end the lease"))
    }

    /// Gives an image its name, also when another has it now.
    pub(super) async fn name_image(&self, name: &str, target: &Descriptor) -> Result<(), Error> {
        let mut client = ImagesClient::new(self.channel.clone());
        let image = Image {
            name: name.to_owned(),
            target: Some(target.clone()),
            ..Image::default()
        };
        let request = CreateImageRequest {
            image: Some(image.clone()),
            ..Default::default()
        };
        match client.create(self.request(request)).await {
            Err(status) if status.code() == Code::AlreadyExists => {}
            reply => return reply.map(drop).map_err(called("name the image")),
        }
        let update_mask = Some(FieldMask {
            paths: vec!["target".to_owned()],
        });
        let request = UpdateImageRequest {
            image: Some(image),
            update_mask,
            ..Default::default()
        };
        client
            .update(self.request(request))
            .await
            .map(drop)
            .map_err(called("name the image"))
    }

    /// A request in this namespace and under this lease.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert("containerd-namespace", self.namespace.clone());
        if let Some(lease) = &self.lease {
            metadata.insert("containerd-lease", lease.clone());
        }
        request
    }
}

/// Adds to a refusal what was tried.
pub(super) fn called(what: &'static str) -> impl FnOnce(Status) -> Error {
    move |status| Error::Call {
        what,
        status: Box::new(status),
    }
}

/// A name that no other pull uses: time tells processes apart, the process id those of the same moment.
pub(super) fn unique() -> String {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    format!("{}-{}", now.as_nanos(), std::process::id())
}

fn header(text: &str) -> Result<MetadataValue<Ascii>, Error> {
    let refused = |_| called("use this namespace")(Status::invalid_argument(format!("{text:?} is no name")));
    text.parse().map_err(refused)
}

/// Labels as a field mask that touches no other label.
pub(super) fn label_mask(labels: &HashMap<String, String>) -> FieldMask {
    FieldMask {
        paths: labels.keys().map(|key| format!("labels.{key}")).collect(),
    }
}
