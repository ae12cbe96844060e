//! Processes of tests: output to a file, ended by their id, and not left behind when the test itself is killed.

use std::fs::File;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::clock::Deadline;

/// How long a killed or asked process may take to end.
const END_WITHIN: Duration = Duration::from_secs(30);

/// A running process, killed when this value goes. Where this process dies first, the process is killed all the same:
/// a small shell waits for the end of a pipe that only this process holds.
#[derive(Debug)]
pub struct Process {
    child: Child,
    guard: Child,
    name: String,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts the command; set its output before.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(name: &str, command: &mut Command) -> Result<Self> {
        let child = command.stdin(Stdio::null()).spawn().with_context(|| format!("cannot start {command:?}"))?;
        let guard = guard(&child.id().to_string())?;
        Ok(Self { child, guard, name: name.to_owned(), ended: None })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard output, once, where it was piped.
    pub fn stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// The exit status, when it has ended.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
            if self.ended.is_some() {
                self.dismiss_guard();
            }
        }
        Ok(self.ended)
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(&mut self) -> Result<()> {
        if self.ended()?.is_none() {
            self.dismiss_guard();
            self.child.kill()?;
            self.ended = Some(self.child.wait()?);
        }
        Ok(())
    }

    /// SIGTERM, and waits for the end; the exit code must be 0.
    ///
    /// # Errors
    /// It does not end in time, or not well.
    pub fn stop(&mut self) -> Result<()> {
        if self.ended()?.is_none() {
            let pid = self.pid().to_string();
            Command::new("kill").args(["-TERM", &pid]).status().context("cannot run kill")?;
        }
        let name = self.name.clone();
        let status = Deadline::after(END_WITHIN).wait(&format!("{name} ends after SIGTERM"), || self.ended())?;
        if !status.success() {
            bail!("{name} ended with {status} (signal {:?})", status.signal());
        }
        Ok(())
    }

    /// The guard must not kill an id that the system has given to another process since.
    fn dismiss_guard(&mut self) {
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
}

/// Kills the process, or the group where a minus stands before its id, when this process has ended.
fn guard(target: &str) -> Result<Child> {
    let mut guard = Command::new("sh");
    // In a group of its own: what ends this process's group does not end the guard before its work.
    guard.args(["-c", "read -r _; kill -KILL -- \"$1\"", "guard", target]).process_group(0);
    guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    guard.spawn().context("cannot start sh")
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("cannot kill {}: {error:#}", self.name);
        }
    }
}

/// Lets this thread, and what it starts, run only where nobody else wants the processor. A low priority is not enough: a
/// Linux of today lets whoever runs finish its slice of some milliseconds, however urgent the next one is.
///
/// # Errors
/// The system refuses.
pub fn nicest() -> Result<()> {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    let status = Command::new("chrt").args(["--idle", "--pid", "0", &thread]).status().context("cannot run chrt")?;
    if !status.success() {
        bail!("chrt: {status}");
    }
    Ok(())
}

/// Runs a program to its end and gives its output.
///
/// # Errors
/// It cannot be started, it fails, or the deadline is over: the error holds what it said. What it started ends too.
pub fn run(command: &mut Command, within: Duration) -> Result<String> {
    let output = run_to_end(command, within)?;
    if !output.0.success() {
        bail!("{command:?}: {}\n{}", output.0, output.1);
    }
    Ok(output.1)
}

/// As [`run`], and an exit code other than 0 is no error.
///
/// # Errors
/// It cannot be started, or the deadline is over.
pub fn run_to_end(command: &mut Command, within: Duration) -> Result<(ExitStatus, String)> {
    let output = tempfile::NamedTempFile::new()?;
    let text = || -> Result<String> { Ok(String::from_utf8_lossy(&std::fs::read(output.path())?).into_owned()) };
    // A group of its own, so that what it starts can be ended with it.
    let (stdout, stderr) = (append(output.path())?, append(output.path())?);
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).process_group(0);
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let group = format!("-{}", child.id());
    let mut guard = guard(&group)?;
    let outcome = Deadline::after(within).wait("the program ends", || Ok(child.try_wait()?));
    guard.kill()?;
    guard.wait()?;
    match outcome {
        Ok(status) => Ok((status, text()?)),
        Err(late) => {
            Command::new("kill").args(["-KILL", "--", &group]).status().context("cannot run kill")?;
            child.wait()?;
            Err(late.context(format!("{command:?}, after {} s:\n{}", within.as_secs(), text()?)))
        }
    }
}

/// The file, opened so that every write goes to its end.
///
/// # Errors
/// It cannot be opened.
pub fn append(path: &Path) -> Result<File> {
    File::options().append(true).create(true).open(path).with_context(|| format!("cannot open {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_late_is_killed_and_shown() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo said; sleep 600"]);
        let error = format!("{:#}", run(&mut command, Duration::from_millis(300)).unwrap_err());
        assert!(error.contains("said") && error.contains("not so before the deadline"), "{error}");
    }

    #[test]
    fn a_program_that_fails_is_shown() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo what >&2; exit 3"]);
        let error = run(&mut command, Duration::from_secs(20)).unwrap_err().to_string();
        assert!(error.contains("what") && error.contains('3'), "{error}");
    }
}
