//! Child processes that do not outlive their owner, and commands whose output matters.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};

use crate::wait;

/// How much of a log is shown when something failed.
const LOG_TAIL_MAX: usize = 8 * 1024;

/// A daemon under test, leader of its own process group. Dropping it kills the group.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output appended to `log`.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let out = File::options().create(true).append(true).open(log);
        let out = out.with_context(|| format!("open {}", log.display()))?;
        let err = out.try_clone().context("duplicate the log's descriptor")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn();
        Ok(Process {
            name: name.to_owned(),
            child: child.with_context(|| format!("start {name}: {command:?}"))?,
            log: log.to_owned(),
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `look` finds something; fails at once when the process ends before, with its log.
    pub fn until<T>(
        &mut self,
        deadline: Duration,
        what: &str,
        mut look: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        let found = wait::until(deadline, what, || match look() {
            Some(found) => Some(Ok(found)),
            None => self.child.try_wait().ok().flatten().map(Err),
        });
        match found {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(status)) => bail!(
                "{} ended ({status}) before {what}\n{}",
                self.name,
                self.log_tail()
            ),
            Err(error) => Err(error.context(format!("{}\n{}", self.name, self.log_tail()))),
        }
    }

    /// Kills it and its group, unconditionally, and takes its exit status.
    pub fn kill(&mut self) {
        self.signal_group(Signal::KILL);
        let _ = self.child.wait();
    }

    /// Asks it to end, and waits for that.
    pub fn terminate(&mut self, deadline: Duration) -> Result<ExitStatus> {
        self.signal_group(Signal::TERM);
        let child = &mut self.child;
        wait::until(deadline, &format!("the end of {}", self.name), || {
            child.try_wait().ok().flatten()
        })
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let tail = &log[log.len().saturating_sub(LOG_TAIL_MAX)..];
        format!(
            "--- end of the log of {}\n{}",
            self.name,
            String::from_utf8_lossy(tail)
        )
    }

    fn signal_group(&self, signal: Signal) {
        // A child that was waited for gives its id back to the kernel, so only a live one may be signalled.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process_group(pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "{}", self.log_tail());
        }
        self.kill();
    }
}

/// Runs a command to its end and gives its output; another exit status than 0 is an error that shows both streams.
pub fn run(command: &mut Command) -> Result<Output> {
    let output = output(command)?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(output)
}

/// Runs a command to its end and gives its output, whatever its exit status.
pub fn output(command: &mut Command) -> Result<Output> {
    let output = command.stdin(Stdio::null()).output();
    output.with_context(|| format!("start {command:?}"))
}

/// Standard output of a command that must succeed, as text without the last line feed.
pub fn text(command: &mut Command) -> Result<String> {
    let output = run(command)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}
