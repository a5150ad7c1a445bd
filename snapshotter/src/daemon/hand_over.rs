//! What it takes to go on as another program, for those who may ask for it: a signal, and the control service.

use std::path::{Path, PathBuf};

use super::node::NodeError;
use super::record::Record;
use crate::upgrade::{Error as UpgradeError, Upgrader, Versions};

/// Why a daemon does not go on as another program.
#[derive(Debug, thiserror::Error)]
pub enum HandOverError {
    /// What it would leave cannot be told.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The other program is not fit.
    #[error(transparent)]
    Upgrade(#[from] UpgradeError),
}

/// Hands this daemon over to another program. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HandOver {
    pub(super) upgrader: Upgrader,
    pub(super) record: PathBuf,
}

impl HandOver {
    /// Asks the program whether it understands what this daemon would leave; if so, the daemon begins to end.
    ///
    /// # Errors
    /// It does not, and the daemon serves as before.
    pub async fn begin(&self, program: &Path) -> Result<Versions, HandOverError> {
        let record = Record::read(&self.record)?;
        let features = record.map_or(0, |record| record.connection.flags);
        Ok(self.upgrader.begin(program, features).await?)
    }
}
