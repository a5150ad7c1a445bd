//! `make demo`: runs the demonstration, and leaves nothing running or mounted, also when it is interrupted.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::scene::{self, Scene};
use integration::{demo, mounts};
use tokio::signal::unix::{SignalKind, signal};

/// What shells say of a process that was interrupted.
const EXIT_INTERRUPTED: u8 = 130;
/// How long an interrupted demonstration is waited for.
const END_DEADLINE: Duration = Duration::from_secs(15);

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:?}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let scene = Arc::new(Scene::create()?);
    let dir = scene.dir().to_owned();
    let told = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let (done, mut outcome) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || done.send(demo::run(scene, &mut std::io::stdout())));
        tokio::select! {
            outcome = &mut outcome => return outcome.context("the demonstration panicked")?.map(|()| true),
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        // With its parts gone the demonstration fails at once, unless it is making the image, which nothing depends on.
        scene::clear(&dir)?;
        let _ = tokio::time::timeout(END_DEADLINE, outcome).await;
        Ok(false)
    });
    scene::clear(&dir)?;
    if !told? {
        return Ok(ExitCode::from(EXIT_INTERRUPTED));
    }
    let left = mounts::under(&dir)?;
    ensure!(
        left.is_empty() && !dir.exists(),
        "left behind: {left:?} {}",
        dir.display()
    );
    writeln!(std::io::stdout(), "\nnothing is left running or mounted")?;
    Ok(ExitCode::SUCCESS)
}
