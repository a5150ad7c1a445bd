//! The CRI image service, passed through to containerd: the kubelet is told to use this socket for images, and what it
//! pulls an image with is remembered, so that the image's data can be fetched with it.
//!
//! Messages pass as they are, so that what is new in a kubelet or a containerd passes, too. Of one, the request to pull,
//! a copy is read.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes};
use futures::future::BoxFuture;
use prost::Message;
use proto::image::{Login, Reference};
use proto::registry::Network;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

/// The call that is looked at.
const PULL: &str = "/runtime.v1.ImageService/PullImage";

/// Longest message: lists of a node's images are the longest, and containerd's own limit is the same.
const MESSAGE_LEN_MAX: usize = 16 << 20;

/// What is read of a request to pull; a kubelet fills in user name and password, or an identity token. Source: Kubernetes, `runtime.v1` PullImageRequest.
#[derive(Clone, PartialEq, Message)]
struct PullImage {
    #[prost(message, optional, tag = "1")]
    image: Option<ImageSpec>,
    #[prost(message, optional, tag = "2")]
    auth: Option<AuthConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct ImageSpec {
    #[prost(string, tag = "1")]
    image: String,
}

/// No `Debug` of its own making: prost's would show the password.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct AuthConfig {
    #[prost(string, tag = "1")]
    username: String,
    #[prost(string, tag = "2")]
    password: String,
    #[prost(string, tag = "5")]
    identity_token: String,
}

impl std::fmt::Debug for AuthConfig {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "AuthConfig({}, ***)", self.username)
    }
}

/// Passes calls on to containerd. Cheap to clone.
#[derive(Clone)]
pub struct ImageProxy {
    containerd: Channel,
    network: Arc<Network>,
}

impl ImageProxy {
    /// Passes calls on to the socket of a containerd, which need not listen yet. Needs a tokio runtime.
    ///
    /// # Errors
    /// The path cannot be part of an address.
    pub fn new(containerd: &Path, network: Arc<Network>) -> Result<Self, tonic::transport::Error> {
        let address = format!("unix:{}", containerd.display());
        let containerd = Endpoint::from_shared(address)?.connect_lazy();
        Ok(Self { containerd, network })
    }

    async fn pass(
        self,
        path: http::uri::PathAndQuery,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, Status> {
        let login = (path.as_str() == PULL)
            .then(|| login(request.get_ref()))
            .flatten();
        if let Some((reference, login)) = &login {
            // Before it is pulled: the snapshotter serves the image before the pull is over.
            self.network.remember(reference, login);
        }
        let mut client = tonic::client::Grpc::new(self.containerd)
            .max_decoding_message_size(MESSAGE_LEN_MAX)
            .max_encoding_message_size(MESSAGE_LEN_MAX);
        let ready = client.ready().await;
        ready.map_err(|_| Status::unavailable("containerd does not answer"))?;
        let answer = client.unary(request, path, Raw).await;
        if let (Err(_), Some((reference, login))) = (&answer, &login) {
            self.network.forget(reference, login);
        }
        answer
    }
}

/// Which image a request wants to pull, and with what, if it says so.
fn login(request: &Bytes) -> Option<(Reference, Login)> {
    let request = PullImage::decode(request.clone()).ok()?;
    let auth = request.auth?;
    let (user, password) = match auth.username.is_empty() {
        true => (String::new(), auth.identity_token),
        false => (auth.username, auth.password),
    };
    let reference = request.image?.image.parse().ok()?;
    (!password.is_empty()).then_some((reference, Login { user, password }))
}

impl NamedService for ImageProxy {
    const NAME: &'static str = "runtime.v1.ImageService";
}

impl Service<http::Request<tonic::body::Body>> for ImageProxy {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let path = request.uri().path_and_query().cloned();
        let path = path.unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
        let call = Call {
            proxy: self.clone(),
            path,
        };
        Box::pin(async move {
            let mut grpc = Grpc::new(Raw)
                .max_decoding_message_size(MESSAGE_LEN_MAX)
                .max_encoding_message_size(MESSAGE_LEN_MAX);
            Ok(grpc.unary(call, request).await)
        })
    }
}

/// One call.
struct Call {
    proxy: ImageProxy,
    path: http::uri::PathAndQuery,
}

impl UnaryService<Bytes> for Call {
    type Response = Bytes;
    type Future = BoxFuture<'static, Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        Box::pin(self.proxy.clone().pass(self.path.clone(), request))
    }
}

/// Messages as they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(image: &str, user: &str) -> Bytes {
        let request = PullImage {
            image: Some(ImageSpec {
                image: image.to_owned(),
            }),
            auth: Some(AuthConfig {
                username: user.to_owned(),
                password: "hunter2".to_owned(),
                identity_token: String::new(),
            }),
        };
        assert!(!format!("{request:?}").contains("hunter2"));
        request.encode_to_vec().into()
    }

    #[test]
    fn logins_are_read_where_there_are_some() {
        let (reference, found) = login(&request("a.io/team/app:1", "me")).unwrap();
        assert_eq!(
            (reference.host.as_str(), reference.repository.as_str()),
            ("a.io", "team/app")
        );
        assert_eq!((found.user.as_str(), found.password.as_str()), ("me", "hunter2"));
        assert!(login(&request("a.io/team/app:1", "")).is_none());
        assert!(login(&request("no such/ name", "me")).is_none());
        let token = PullImage {
            image: Some(ImageSpec {
                image: "a.io/team/app:1".to_owned(),
            }),
            auth: Some(AuthConfig {
                identity_token: "hunter3".to_owned(),
                ..AuthConfig::default()
            }),
        };
        assert!(!format!("{token:?}").contains("hunter3"));
        let (_, found) = login(&token.encode_to_vec().into()).unwrap();
        assert_eq!((found.user.as_str(), found.password.as_str()), ("", "hunter3"));
        assert!(login(&Bytes::from_static(b"\xff")).is_none());
    }
}
