//! The one map from errors to gRPC codes. Containerd acts on the code and shows the text.

use tonic::{Code, Status};

use crate::Error;

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let code = code(&error);
        if matches!(code, Code::Internal | Code::Unavailable | Code::DataLoss) {
            tracing::error!(%error, "request failed");
        }
        Status::new(code, error.to_string())
    }
}

/// The code of an error.
pub fn code(error: &Error) -> Code {
    match error {
        Error::NotFound { .. } => Code::NotFound,
        Error::AlreadyExists { .. } | Error::RemoteExists { .. } => Code::AlreadyExists,
        Error::ParentNotCommitted { .. } | Error::Filter(_) | Error::Invalid { .. } => Code::InvalidArgument,
        // The garbage collector tolerates this code of Remove and no other.
        Error::HasChildren { .. } | Error::WrongKind { .. } => Code::FailedPrecondition,
        Error::NoImageReference { .. } | Error::NoBootstrap { .. } => Code::FailedPrecondition,
        Error::Image { .. } | Error::Stopping => Code::Unavailable,
        Error::Cache(_) => Code::Internal,
        Error::Store(source) => match **source {
            redb::Error::Corrupted(_) => Code::DataLoss,
            _ => Code::Internal,
        },
        Error::Io { source, .. } => match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Code::ResourceExhausted,
            _ => Code::Internal,
        },
    }
}
