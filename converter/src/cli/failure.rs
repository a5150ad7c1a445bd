//! How errors are told: one line with its causes, then what to do next.

use std::borrow::Cow;

use converter::Error;
use converter::error::{LayerError, Refusal};

use rafs::hints::HintsError;

use super::convert::RafsOption;
use super::place::TakenForRegistry;
use super::printer::{Output, Printer};
use super::signals::Ended;
use super::unpack::Compressed;

/// A signal ended the command.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("interrupted by {}", by.name)]
pub(crate) struct Interrupted {
    /// Which.
    pub(crate) by: Ended,
    /// What the command leaves behind, or does not.
    pub(crate) hint: Option<&'static str>,
}

/// Prints `error: ...: cause: cause` and, where we know what helps, `hint: ...`.
pub(crate) fn print(printer: &Printer, error: &anyhow::Error) {
    let (mut text, mut advice) = (String::new(), None);
    for cause in error.chain() {
        let cause = cause.to_string();
        // Errors that are also logged bring their advice with them.
        let (cause, with_it) = match cause.split_once("; hint: ") {
            Some((cause, advice)) => (cause, Some(advice.to_owned())),
            None => (cause.as_str(), None),
        };
        advice = advice.or(with_it);
        // Wrappers that say no more than their source are not repeated.
        if !text.ends_with(cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(cause);
        }
    }
    let hint = hint(error).or(advice.map(Cow::Owned));
    printer.failure(&text.replace('\n', " "), hint.as_deref());
}

/// The reader of our output has gone, as `head` does: no error.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let written = match (error.downcast_ref::<Error>(), error.downcast_ref::<Output>()) {
        (
            Some(Error::Io {
                doing: "writing",
                source,
                ..
            }),
            _,
        ) => Some(source),
        (_, Some(Output(source))) => Some(source),
        _ => None,
    };
    written.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn hint(error: &anyhow::Error) -> Option<Cow<'static, str>> {
    if let Some(interrupted) = error.downcast_ref::<Interrupted>() {
        return interrupted.hint.map(Cow::Borrowed);
    }
    if error.downcast_ref::<HintsError>().is_some() {
        return Some("hints are JSON: {\"version\":\"v1\",\"files\":[{\"path\":\"/usr/bin/tool\"}]}".into());
    }
    if let Some(taken) = error.downcast_ref::<TakenForRegistry>() {
        return Some(taken.hint().into());
    }
    if error.downcast_ref::<RafsOption>().is_some() {
        return Some(
            "leave it out; --compressor chooses gzip (nothing given), zstd or none for the layer".into(),
        );
    }
    if error.downcast_ref::<Compressed>().is_some() {
        return Some(
            "write the archive to standard output and compress it: slipway unpack IMG - | gzip".into(),
        );
    }
    let is_full = |cause: &(dyn std::error::Error + 'static)| {
        let error = cause.downcast_ref::<std::io::Error>();
        error.is_some_and(|error| error.kind() == std::io::ErrorKind::StorageFull)
    };
    if error.chain().any(is_full) {
        return Some("make room there, and run the same command again".into());
    }
    let causes = error.chain();
    causes
        .filter_map(|cause| cause.downcast_ref::<Error>())
        .find_map(hint_of)
        .map(Cow::Borrowed)
}

const PLATFORM_HINT: &str = "choose one with --platform OS/ARCH[/VARIANT]";

fn hint_of(error: &Error) -> Option<&'static str> {
    match error {
        Error::Refused { reason, .. } => refusal_hint(reason),
        Error::Platform { .. } => Some(PLATFORM_HINT),
        Error::Layer { source, .. } => layer_hint(source),
        Error::NotRafs { .. } => Some("convert the image first: slipway convert SRC DST"),
        Error::Bootstrap { source, .. } => match source {
            rafs::Error::Foreign { .. } => Some("give an image name, or the image.boot of a RAFS v6 image"),
            rafs::Error::Unsupported { .. } => {
                Some("the image needs a newer slipway or the tool that made it")
            }
            rafs::Error::Corrupt { .. } => Some("fetch the file again, or convert the image again"),
        },
        Error::Chunk { .. } | Error::BlobMeta { .. } => {
            Some("slipway check --data lists all damaged chunks; push or convert the image again")
        }
        Error::NotEmpty { .. } => Some("unpack into a new folder"),
        Error::Image(_)
        | Error::Document { .. }
        | Error::Build(_)
        | Error::Path { .. }
        | Error::Io { .. }
        | Error::Threads(_)
        | Error::Interrupted => None,
    }
}

fn refusal_hint(reason: &Refusal) -> Option<&'static str> {
    match reason {
        Refusal::AlreadyRafs => Some("slipway inspect shows it; use skopeo copy to move it"),
        Refusal::NoPlatform { .. } => Some(PLATFORM_HINT),
        Refusal::Encrypted => Some("decrypt the image first, for example with skopeo copy --decryption-key"),
        Refusal::NotAnImage(_) | Refusal::UnknownLayer(_) => {
            Some("only images of file-system layers can be mounted")
        }
        Refusal::Foreign => {
            Some("push the image with its foreign layers (skopeo copy from where it was built)")
        }
        Refusal::LayerCount { .. } => Some("the image is damaged at its source; build or push it again"),
    }
}

fn layer_hint(error: &LayerError) -> Option<&'static str> {
    match error {
        LayerError::DiffId { .. } | LayerError::Tar(_) | LayerError::Decompress(_) => {
            Some("the layer is damaged at its source; build or push the image again")
        }
        LayerError::UnsupportedCompression(_) => Some("recompress the layer with gzip or zstd"),
        LayerError::Entry { .. } => {
            Some("the layer was made wrong; other tools may drop or misplace this entry")
        }
        LayerError::TooManyChunks { .. } => Some("use a larger --chunk-size"),
        LayerError::Blob(_) => Some("split the layer into several"),
        LayerError::Build(_) => Some("convert without --layer-bootstraps"),
        LayerError::TooManyMembers { .. } => {
            Some("leave out files that are not needed, or pack many small ones into few")
        }
        LayerError::Interrupted => None,
    }
}
