//! Running other programs: output to a log, a deadline, and nothing left running behind.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

const POLL: Duration = Duration::from_millis(20);

/// A moment of the monotonic clock.
#[derive(Clone, Copy)]
pub(crate) struct Moment(std::time::Instant);

impl Moment {
    #[allow(clippy::disallowed_methods)] // A development tool measures real time.
    pub(crate) fn now() -> Self {
        Self(std::time::Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// A child process in a group of its own. The group is killed when this value goes, and also when this process is
/// killed itself: a small shell waits for the end of a pipe that only this process holds.
pub(crate) struct Running {
    child: Child,
    guard: Child,
    over: bool,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let child = command.process_group(0).spawn().with_context(|| format!("cannot start {}", describe(command)))?;
        let mut guard = Command::new("sh");
        // Out of our group, so that an interrupt from the terminal does not end the guard before its work.
        guard.args(["-c", "read -r _; kill -KILL -- \"-$1\"", "guard", &child.id().to_string()]).process_group(0);
        let guard = guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        Ok(Self { child, guard, over: false })
    }

    /// The exit status, when the process has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() && !self.over {
            self.over = true;
            self.dismiss_guard();
        }
        Ok(status)
    }

    /// The guard must not kill an id that the system has given away since.
    fn dismiss_guard(&mut self) {
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        self.dismiss_guard();
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }
}

/// Runs programs one after another with their output in one log.
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    shown: bool,
}

impl Log {
    /// `shown`: the output also appears while it comes.
    pub(crate) fn create(path: PathBuf, shown: bool) -> Result<Self> {
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path, file, shown })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn line(&mut self, text: &str) -> Result<()> {
        if self.shown {
            println!("{text}");
        }
        Ok(writeln!(self.file, "{text}")?)
    }

    pub(crate) fn text(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(&self.path)?).into_owned())
    }

    /// Runs to the end. An error says that it could not start or was killed at the deadline.
    pub(crate) fn status(&mut self, command: &mut Command, deadline: Duration) -> Result<ExitStatus> {
        self.line(&format!("$ {}", describe(command)))?;
        let mut position = self.file.seek(SeekFrom::End(0))?;
        let appending = File::options().append(true).open(&self.path)?;
        command.stdin(Stdio::null()).stdout(appending.try_clone()?).stderr(appending);
        let started = Moment::now();
        let mut running = Running::start(command)?;
        loop {
            let ended = running.ended()?;
            if self.shown {
                position += copy_from(&self.path, position)?;
            }
            self.file.seek(SeekFrom::End(0))?;
            if let Some(status) = ended {
                return Ok(status);
            }
            if started.elapsed() > deadline {
                bail!("killed: {} was not done after {} s", describe(command), deadline.as_secs());
            }
            std::thread::sleep(POLL);
        }
    }

    /// Runs to the end; another exit code than 0 is an error.
    pub(crate) fn run(&mut self, command: &mut Command, deadline: Duration) -> Result<()> {
        let status = self.status(command, deadline)?;
        if !status.success() {
            bail!("{}: {status}", describe(command));
        }
        Ok(())
    }
}

fn copy_from(path: &Path, position: u64) -> Result<u64> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(position))?;
    let mut bytes = vec![];
    let count = file.read_to_end(&mut bytes)?;
    std::io::stdout().write_all(&bytes)?;
    Ok(u64::try_from(count)?)
}

/// A command as one would type it.
fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Whether a program can be started at all.
pub(crate) fn exists(program: &str, version_flag: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(version_flag).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_past_its_deadline_is_killed_with_its_children() {
        let path = std::env::temp_dir().join(format!("weir-xtask-deadline-{}", std::process::id()));
        let mut log = Log::create(path.clone(), false).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 600 & echo child=$!; wait"]);
        let error = log.run(&mut command, Duration::from_millis(400)).unwrap_err().to_string();
        assert!(error.contains("killed"), "{error}");
        let text = log.text().unwrap();
        fs::remove_file(path).unwrap();
        let child = text.lines().find_map(|line| line.strip_prefix("child=")).expect("the child's pid");
        // The signal is sent; that it was taken is not waited for.
        let sent = Moment::now();
        loop {
            let state = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            if state.is_empty() || state.contains(") Z ") {
                return;
            }
            assert!(sent.elapsed() < Duration::from_secs(10), "the child still runs: {state}");
            std::thread::sleep(POLL);
        }
    }
}
