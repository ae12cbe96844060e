//! A broker of its own for a test: `weir dev` in a temporary folder, on free ports; killed, started again, stopped.
//!
//! A test that ends without [`Weir::finish`] has not checked the broker's log: a line with ` ERROR ` in it means that a
//! person must look, and fails the test.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::clock::{Deadline, WallClock};
use crate::http::http_get;
use crate::places;
use crate::process::{Process, append};
use crate::stores::{self, S3};

/// How long a start may take; recovery is part of it.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Lines of the log that a failed test shows.
const SHOWN_LINES: usize = 60;

/// How the broker is to be.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The object store; without one, what [`stores::next`] gives.
    pub store: Option<String>,
    /// `KEY=VALUE` of the configuration.
    pub sets: Vec<String>,
    /// More of the command line.
    pub arguments: Vec<String>,
    /// Its environment.
    pub environment: Vec<(String, String)>,
    /// The TLS listener asks clients for certificates.
    pub mutual_tls: bool,
    /// The staging folder is a file system of its own, of so many bytes, that only the process sees and that ends with it.
    pub staging_disk_bytes: Option<u64>,
}

/// A broker.
#[derive(Debug)]
pub struct Weir {
    options: Options,
    folder: TempDir,
    port: u16,
    process: Option<Running>,
    finished: bool,
}

#[derive(Debug)]
struct Running {
    process: Process,
    lines: Receiver<String>,
}

impl Weir {
    /// Starts a broker and waits until it is ready.
    ///
    /// # Errors
    /// It is not ready in time.
    pub fn start() -> Result<Self> {
        Self::start_with(Options::default())
    }

    /// As [`Weir::start`].
    ///
    /// # Errors
    /// As [`Weir::start`].
    pub fn start_with(options: Options) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("weir-test-").tempdir()?;
        let mut options = options;
        if options.store.is_none()
            && let Some(store) = stores::next()
        {
            options.store = Some(store);
            options.environment.extend(S3::credentials());
        }
        let mut weir = Self { options, folder, port: places::ports()?, process: None, finished: false };
        weir.launch()?;
        weir.wait_ready()?;
        Ok(weir)
    }

    /// Starts the process and waits for nothing.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn launch(&mut self) -> Result<()> {
        let mut command = match self.options.staging_disk_bytes {
            None => Command::new(places::weir()?),
            Some(bytes) => {
                let mut command = Command::new("unshare");
                let mount = format!("mkdir -p \"$0\" && mount -t tmpfs -o size={bytes} weir \"$0\" && exec \"$@\"");
                command.args(["--mount", "sh", "-c", &mount]).arg(self.staging_dir()).arg(places::weir()?);
                command
            }
        };
        command.arg("dev").arg("--data-dir").arg(self.data_dir()).args(["--output", "json"]);
        command.args(["--listen", &self.bootstrap(), "--http", &self.http()]);
        if let Some(store) = &self.options.store {
            command.args(["--store", store]);
        }
        if self.options.mutual_tls {
            let authority = self.ca();
            command.args(["--set", "listeners.1.authentication=mutual_tls"]);
            command.args(["--set", &format!("tls.client_ca_file={}", authority.display())]);
        }
        for set in &self.options.sets {
            command.args(["--set", set]);
        }
        command.args(&self.options.arguments);
        command.envs(self.options.environment.iter().map(|(name, value)| (name, value)));
        command.stdout(Stdio::piped()).stderr(append(&self.log_path())?);
        let mut process = Process::start("weir dev", &mut command)?;
        let stdout = process.stdout().context("the output is piped")?;
        // More lines than a start prints: the reader never waits for us.
        let (sender, lines) = sync_channel(1000);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.try_send(line);
            }
        });
        self.process = Some(Running { process, lines });
        Ok(())
    }

    /// Waits for the line `ready`.
    ///
    /// # Errors
    /// It does not come in time, or the process ends.
    pub fn wait_ready(&mut self) -> Result<()> {
        let log = self.log_path();
        let running = self.process.as_mut().context("the broker was started")?;
        Deadline::after(READY_WITHIN).wait("the broker says `ready`", || {
            while let Ok(line) = running.lines.try_recv() {
                if line == "ready" {
                    return Ok(Some(()));
                }
            }
            match running.process.ended()? {
                Some(status) => bail!("the broker ended at its start: {status}\n{}", tail(&log)),
                None => Ok(None),
            }
        })
    }

    /// Sets a configuration key from the next start on.
    pub fn set(&mut self, key_value: &str) {
        let key = |set: &str| set.split('=').next().map(str::to_owned);
        self.options.sets.retain(|set| key(set) != key(key_value));
        self.options.sets.push(key_value.to_owned());
    }

    /// The id of its process, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|running| running.process.pid())
    }

    /// The folder that the broker keeps everything in.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The configuration that it wrote for itself.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.data_dir().join("broker-1").join("weir.yaml")
    }

    /// The folder of the journals.
    #[must_use]
    pub fn staging_dir(&self) -> PathBuf {
        self.data_dir().join("broker-1").join("staging")
    }

    /// The plain listener.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port of the plain listener, and of QUIC.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The TLS listener.
    #[must_use]
    pub fn tls(&self) -> String {
        format!("127.0.0.1:{}", self.port + 1)
    }

    /// Health and metrics.
    #[must_use]
    pub fn http(&self) -> String {
        format!("127.0.0.1:{}", self.port + 2)
    }

    /// The CA of its certificate.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.data_dir().join("tls").join("ca.pem")
    }

    /// Certificate and key of a client that the CA has signed.
    ///
    /// # Errors
    /// They cannot be made.
    pub fn identity(&self) -> Result<(PathBuf, PathBuf)> {
        let files = tls::dev::ensure_client(&self.data_dir().join("tls"), "tester", &WallClock)?;
        Ok((files.certificate, files.key))
    }

    /// A path as the process sees it.
    ///
    /// # Errors
    /// It does not run.
    pub fn inside(&self, path: &Path) -> Result<PathBuf> {
        let process = &self.process.as_ref().context("the broker runs")?.process;
        Ok(Path::new("/proc").join(process.pid().to_string()).join("root").join(path.strip_prefix("/")?))
    }

    /// Whether `/readyz` says that it can serve; the error is what it says else.
    ///
    /// # Errors
    /// It is not ready.
    pub fn ready(&self) -> Result<()> {
        match http_get(&self.http(), "/readyz?verbose")? {
            (200, _) => Ok(()),
            (_, why) => bail!("{why}"),
        }
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut running) => running.process.kill(),
            None => Ok(()),
        }
    }

    /// SIGTERM, and waits for the end; the exit code must be 0.
    ///
    /// # Errors
    /// It does not end in time, or not well.
    pub fn stop(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut running) => running.process.stop().with_context(|| tail(&self.log_path())),
            None => Ok(()),
        }
    }

    /// The process still runs.
    ///
    /// # Errors
    /// It does not.
    pub fn check_running(&mut self) -> Result<()> {
        let running = self.process.as_mut().context("the broker was started")?;
        match running.process.ended()? {
            None => Ok(()),
            Some(status) => bail!("the broker ended: {status}\n{}", tail(&self.log_path())),
        }
    }

    /// Starts a broker that was killed or stopped, on the same data and ports, and waits until it is ready.
    ///
    /// # Errors
    /// It is not ready in time.
    pub fn restart(&mut self) -> Result<()> {
        self.launch()?;
        self.wait_ready()
    }

    /// What all its processes have written to their log so far.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.log_path())?)
    }

    /// Stops it in peace: exit code 0, and no ` ERROR ` in its log.
    ///
    /// # Errors
    /// One of the two is not so.
    pub fn finish(self) -> Result<()> {
        self.finish_with(|_| false)
    }

    /// As [`Weir::finish`], with errors that the test expects.
    ///
    /// # Errors
    /// As [`Weir::finish`].
    pub fn finish_with(mut self, expected: impl Fn(&str) -> bool) -> Result<()> {
        if let Some(mut running) = self.process.take() {
            running.process.stop().with_context(|| tail(&self.log_path()))?;
        }
        let log = self.log()?;
        let errors: Vec<&str> = log.lines().filter(|line| line.contains(" ERROR ") && !expected(line)).collect();
        if !errors.is_empty() {
            bail!("the broker's log has errors:\n{}", errors.join("\n"));
        }
        let panics: Vec<&str> = log.lines().filter(|line| line.contains("panicked at")).collect();
        if !panics.is_empty() {
            bail!("the broker panicked:\n{}", panics.join("\n"));
        }
        self.finished = true;
        Ok(())
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("weir.log")
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        if !self.finished {
            // The process first, so that its last words are there.
            self.process = None;
            eprintln!("the broker's log ends with:\n{}", tail(&self.log_path()));
        }
    }
}

/// The end of a log.
fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}
