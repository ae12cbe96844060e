//! Running other programs: output to a log, a deadline, and nothing left running behind.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
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

/// A child process that is killed, with what it started, when this value goes.
pub(crate) struct Running {
    child: Child,
    over: bool,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("cannot start {}", describe(command)))?;
        Ok(Self { child, over: false })
    }

    /// The exit status, when the process has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        self.over |= status.is_some();
        Ok(status)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        for pid in descendants(self.child.id()).into_iter().rev() {
            // Descendants have no handle of ours; the pid is that of a live child of a live child.
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processes that descend from `pid`, parents first. Empty where there is no `/proc`.
fn descendants(pid: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(child) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name, in parentheses, may hold anything; after it come the state and the parent.
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        if let Some(parent) = after_name.split_whitespace().nth(1).and_then(|field| field.parse().ok()) {
            children.entry(parent).or_default().push(child);
        }
    }
    let mut found = vec![];
    let mut next = vec![pid];
    while let Some(parent) = next.pop() {
        let below = children.remove(&parent).unwrap_or_default();
        found.extend(&below);
        next.extend(below);
    }
    found
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
        let state = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "the child still runs: {state}");
    }
}
