//! The end of work on threads that may block.

use tokio::task::JoinHandle;

use crate::error::Error;

/// What a thread's work came to. A panic there goes on here.
///
/// # Errors
/// [`Error::Interrupted`] when the runtime went down before the work was done.
pub(crate) async fn joined<T>(work: JoinHandle<T>) -> Result<T, Error> {
    match work.await {
        Ok(result) => Ok(result),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Error::Interrupted),
    }
}
