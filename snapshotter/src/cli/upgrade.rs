//! `slipwayd upgrade`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use proto::control::{StatusRequest, StatusResponse, UpgradeRequest};
use snapshotter::layout::Layout;

use super::printer;
use super::runtime;
use super::settings::Settings;

/// How long the new daemon may take to serve. The old one may take ten seconds for its calls, and a machine with hundreds
/// of images some for mounting.
const SERVES_DEADLINE: Duration = Duration::from_secs(60);

/// How long nobody may be there: whoever supervises a daemon that failed needs a moment to start it again.
const GONE_DEADLINE: Duration = Duration::from_secs(10);

/// How long one question may wait for its answer: while daemons change, it may have reached neither.
const QUESTION_DEADLINE: Duration = Duration::from_secs(2);

/// Pause between two questions.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Program that takes over [default: this one]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Has the running daemon replaced by another program, and waits until that one serves.
pub(super) fn run(settings: &Settings, arguments: &Arguments) -> anyhow::Result<()> {
    let config = settings.config()?;
    let control = Layout::new(&config.root, &config.run_dir).control();
    let binary = match &arguments.binary {
        Some(binary) => std::path::absolute(binary)?,
        None => std::env::current_exe().context("cannot find this program; hint: name it with --binary")?,
    };
    runtime()?.block_on(async {
        let before = status(&control).await?;
        let mut client = proto::control::connect(&control).await?;
        let program = binary.to_str().context("the path of the program is not UTF-8")?;
        let request = UpgradeRequest {
            program: program.to_owned(),
        };
        let upgrading = client.upgrade(request).await;
        upgrading.map_err(|status| anyhow::anyhow!("not upgraded: {}", status.message()))?;
        let after = wait(&control, &before).await?;
        printer::data(&format!(
            "upgraded from {} to {}, process {}\n",
            before.version, after.version, after.pid
        ))
    })
}

async fn status(control: &Path) -> anyhow::Result<StatusResponse> {
    let mut client = proto::control::connect(control).await?;
    Ok(client.status(StatusRequest {}).await?.into_inner())
}

/// Waits until another daemon than the one before answers. The socket is the same one: it outlives them.
async fn wait(control: &Path, before: &StatusResponse) -> anyhow::Result<StatusResponse> {
    let process = Path::new("/proc").join(before.pid.to_string());
    let began = Instant::now();
    let mut seen = began;
    while began.elapsed() < SERVES_DEADLINE {
        if let Ok(Ok(status)) = tokio::time::timeout(QUESTION_DEADLINE, status(control)).await
            && status.start != before.start
        {
            return Ok(status);
        }
        if process.exists() {
            seen = Instant::now();
        } else if seen.elapsed() > GONE_DEADLINE {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    bail!(
        "the new slipwayd does not serve; hint: its log tells why, and containers wait for a slipwayd: put the program of \
         version {} back and start it",
        before.version
    )
}
