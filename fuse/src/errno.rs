//! The one map from the reasons a request fails to error numbers.

use rustix::io::Errno;

use crate::tree::Error;

/// The error number that says best why a request failed. A read whose bytes could not be had is EIO, whatever kept
/// them away: programs know what to do about that, and nothing else.
pub(crate) fn errno(error: &Error) -> Errno {
    match error {
        Error::Stale => Errno::STALE,
        Error::NotFound => Errno::NOENT,
        Error::NotDirectory => Errno::NOTDIR,
        Error::IsDirectory => Errno::ISDIR,
        Error::WrongKind => Errno::INVAL,
        Error::NoAttribute => Errno::NODATA,
        Error::Range => Errno::RANGE,
        Error::Device(_) | Error::Image(_) | Error::Fetch(_) => Errno::IO,
    }
}

/// An error with all its sources.
pub(crate) struct ErrorChain<'a>(pub(crate) &'a dyn std::error::Error);

impl std::fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
