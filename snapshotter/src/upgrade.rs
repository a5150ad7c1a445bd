//! Going on as another program: whether that one understands what this one leaves, and becoming it.
//!
//! The other program is asked before anything is given up: it is run with the daemon's own arguments and `--versions`,
//! reads the same configuration, and prints [`Versions`]. Only then the daemon finishes its calls, leaves the FUSE
//! connection to the keeper, and puts the other program in its own place, so that the process id stays.

mod become_program;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

pub use self::become_program::become_program;
use crate::{daemon, keeper, store};

/// Flag of `slipwayd run` that makes it print its [`Versions`] instead of serving.
pub const VERSIONS_FLAG: &str = "--versions";

/// How long a program may take to tell its versions: it reads one file and prints one line.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// Longest answer and complaint that are read, bytes. The answer is a few numbers.
const ANSWER_LEN_MAX: u64 = 64 << 10;

/// Environment of systemd that is meant for the daemon and for no program it starts.
const SYSTEMD_VARIABLES: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET"];

/// What a program understands of the state that daemons leave for each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The program's own version, such as `0.1.0`.
    pub version: String,
    /// For each kind of state, the versions it can go on with.
    pub understands: BTreeMap<String, Vec<u64>>,
    /// FUSE features that it knows, as bits of `FUSE_INIT` in `linux/fuse.h`.
    pub fuse_features: u64,
}

/// Why a daemon does not go on as another program. It serves as before.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program cannot be run.
    #[error("cannot run {}: {source}; hint: name an executable slipwayd with --binary", program.display())]
    NotRunnable {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The program failed, or said something else than its versions.
    #[error(
        "{} did not tell which versions it understands: {reason}; hint: run `{} --config FILE config check`, and \
         mend what it finds; a slipwayd that knows no upgrades takes over when this one is stopped and it is started",
        program.display(), program.display()
    )]
    NoAnswer {
        /// The program.
        program: PathBuf,
        /// What it did instead.
        reason: String,
    },
    /// The program would not understand what this one leaves.
    #[error(
        "{} (version {version}) does not understand {what} of version {in_use}, which this slipwayd uses; hint: \
         upgrade over a version that understands both, or stop all containers that read lazily and then slipwayd, and \
         start the other one",
        program.display()
    )]
    Unknown {
        /// The program.
        program: PathBuf,
        /// Its version.
        version: String,
        /// The kind of state.
        what: &'static str,
        /// Its version here.
        in_use: u64,
    },
    /// The program does not know what was agreed on with the kernel.
    #[error(
        "{} (version {version}) does not know the FUSE features {features:#x}, which are in use; hint: upgrade to a \
         version that does",
        program.display()
    )]
    Features {
        /// The program.
        program: PathBuf,
        /// Its version.
        version: String,
        /// Bits that it does not know.
        features: u64,
    },
    /// It is going on already.
    #[error("this slipwayd is ending already; hint: ask `slipwayd status` which version serves")]
    Ending,
}

/// The versions of state that this program writes, by kind.
fn in_use() -> [(&'static str, u64); 3] {
    [
        ("connection", u64::from(daemon::RECORD_VERSION)),
        ("store", store::VERSION),
        ("keeper", u64::from(keeper::VERSION)),
    ]
}

impl Versions {
    /// What this program understands.
    pub fn ours() -> Self {
        let understands = in_use().map(|(kind, version)| (kind.to_owned(), vec![version]));
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            understands: understands.into(),
            fuse_features: fuse::known_features(),
        }
    }

    /// Whether a program with these versions can go on after this one on a connection with these features.
    fn accepts(&self, program: &Path, features: u64) -> Result<(), Error> {
        let (program, version) = (program.to_owned(), self.version.clone());
        let is_known = |kind: &str, version| {
            self.understands
                .get(kind)
                .is_some_and(|known| known.contains(&version))
        };
        if let Some((what, in_use)) = in_use()
            .into_iter()
            .find(|(kind, version)| !is_known(kind, *version))
        {
            return Err(Error::Unknown {
                program,
                version,
                what,
                in_use,
            });
        }
        match features & !self.fuse_features {
            0 => Ok(()),
            features => Err(Error::Features {
                program,
                version,
                features,
            }),
        }
    }
}

/// Hands a running daemon over to another program. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Upgrader {
    arguments: Arc<[OsString]>,
    stop: CancellationToken,
    chosen: Arc<OnceLock<PathBuf>>,
}

impl Upgrader {
    /// For a daemon that was started with these arguments (the program's name left out) and ends with `stop`.
    pub fn new(arguments: impl IntoIterator<Item = OsString>, stop: CancellationToken) -> Self {
        Self {
            arguments: arguments.into_iter().collect(),
            stop,
            chosen: Arc::default(),
        }
    }

    /// The program that is to go on, if there is one.
    pub fn chosen(&self) -> Option<&Path> {
        self.chosen.get().map(PathBuf::as_path)
    }

    /// Asks a program whether it can go on with a connection of these features. If so, the daemon begins to end.
    ///
    /// # Errors
    /// It cannot, and nothing has changed.
    pub async fn begin(&self, program: &Path, features: u64) -> Result<Versions, Error> {
        if self.stop.is_cancelled() {
            return Err(Error::Ending);
        }
        let versions = self.ask(program).await?;
        versions.accepts(program, features)?;
        if self.stop.is_cancelled() || self.chosen.set(program.to_owned()).is_err() {
            return Err(Error::Ending);
        }
        self.stop.cancel();
        Ok(versions)
    }

    async fn ask(&self, program: &Path) -> Result<Versions, Error> {
        let no_answer = |reason: String| Error::NoAnswer {
            program: program.to_owned(),
            reason,
        };
        let mut command = Command::new(program);
        command.args(self.arguments.iter()).arg(VERSIONS_FLAG);
        command.kill_on_drop(true).stdin(Stdio::null());
        for name in SYSTEMD_VARIABLES {
            command.env_remove(name);
        }
        let output = match tokio::time::timeout(ANSWER_DEADLINE, output(command)).await {
            Ok(output) => output.map_err(|source| Error::NotRunnable {
                program: program.to_owned(),
                source,
            })?,
            Err(_) => return Err(no_answer(format!("nothing came in {ANSWER_DEADLINE:?}"))),
        };
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said
                .lines()
                .next()
                .unwrap_or_default()
                .trim_start_matches("error: ");
            return Err(no_answer(format!("{}: {said}", output.status)));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| no_answer(error.to_string()))
    }
}

/// Runs a command to its end; of what it says only so much is read.
async fn output(mut command: Command) -> std::io::Result<Output> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (stdout, stderr) = tokio::try_join!(head(child.stdout.take()), head(child.stderr.take()))?;
    Ok(Output {
        status: child.wait().await?,
        stdout,
        stderr,
    })
}

async fn head(stream: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(ANSWER_LEN_MAX).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
