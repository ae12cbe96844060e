//! A cluster of its own for a test: `weir dev --brokers N` in a temporary folder, on free ports. Its brokers are killed one
//! by one; `weir dev` starts them again after two seconds.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::clock::Deadline;
use crate::http::{http_get, metric};
use crate::places;
use crate::process::{Process, append};
use crate::stores::{self, S3};

const READY_WITHIN: Duration = Duration::from_secs(60);

/// One broker of a cluster.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its plain listener.
    pub kafka: String,
    /// Health and metrics.
    pub http: String,
    config: PathBuf,
}

impl Member {
    /// The process that runs it now, if any.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn pid(&self) -> Result<Option<u32>> {
        let config = self.config.display().to_string();
        for entry in fs::read_dir("/proc")? {
            let entry = entry?;
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            // A process that ends meanwhile has none.
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
            if words.contains(&b"broker".as_slice()) && words.contains(&config.as_bytes()) {
                return Ok(Some(pid));
            }
        }
        Ok(None)
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&self) -> Result<()> {
        let pid = self.pid()?.with_context(|| format!("{} runs", self.name))?;
        let killed = Command::new("kill").args(["-9", &pid.to_string()]).status()?;
        ensure!(killed.success(), "{} could not be killed", self.name);
        Ok(())
    }

    /// Whether it is the controller.
    #[must_use]
    pub fn is_controller(&self) -> bool {
        metric(&self.http, "weir_controller").is_ok_and(|leads| leads > 0.5)
    }

    /// Whether it says that it is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        http_get(&self.http, "/readyz").is_ok_and(|(status, _)| status == 200)
    }
}

/// Brokers, and the process that keeps them running.
#[derive(Debug)]
pub struct Cluster {
    /// The brokers.
    pub members: Vec<Member>,
    folder: TempDir,
    process: Process,
    finished: bool,
}

impl Cluster {
    /// Starts so many brokers, and waits until all are ready.
    ///
    /// # Errors
    /// They are not ready in time.
    pub fn start(brokers: usize, sets: &[&str]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("weir-test-").tempdir()?;
        let mut command = Command::new(places::weir()?);
        command.args(["dev", "--output", "json", "--brokers", &brokers.to_string()]);
        command.arg("--data-dir").arg(folder.path().join("data"));
        command.args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        if let Some(store) = stores::next() {
            command.args(["--store", &store]).envs(S3::credentials());
        }
        for set in sets {
            command.args(["--set", set]);
        }
        let log = folder.path().join("weir.log");
        command.stdout(Stdio::piped()).stderr(append(&log)?);
        let mut process = Process::start("weir dev", &mut command)?;
        let mut lines = BufReader::new(process.stdout().context("the output is piped")?).lines();
        let first = lines.next().with_context(|| fs::read_to_string(&log).unwrap_or_default())??;
        let started: Value = serde_json::from_str(&first)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let members = started["brokers"].as_array().context("brokers")?.iter().map(|broker| Member {
            name: text(&broker["name"]),
            kafka: text(&broker["kafka"]),
            http: text(&broker["http"]),
            config: text(&broker["config"]).into(),
        });
        let mut cluster = Self { members: members.collect(), folder, process, finished: false };
        std::thread::spawn(move || lines.for_each(drop));
        for member in cluster.members.clone() {
            cluster.wait_ready(&member)?;
        }
        Ok(cluster)
    }

    /// Waits until a broker is ready.
    ///
    /// # Errors
    /// It is not in time.
    pub fn wait_ready(&mut self, member: &Member) -> Result<()> {
        let waited = Deadline::after(READY_WITHIN).wait("the broker is ready", || match self.process.ended()? {
            Some(status) => bail!("`weir dev` ended: {status}"),
            None => Ok(member.is_ready().then_some(())),
        });
        waited.with_context(|| self.log().unwrap_or_default())
    }

    /// The addresses of all plain listeners.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        self.members.iter().map(|member| member.kafka.as_str()).collect::<Vec<_>>().join(",")
    }

    /// The broker that is the controller.
    ///
    /// # Errors
    /// None is, for long.
    pub fn controller(&self) -> Result<Member> {
        Deadline::after(READY_WITHIN)
            .wait("there is a controller", || Ok(self.members.iter().find(|member| member.is_controller()).cloned()))
    }

    /// What all its processes have written to their log so far.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.folder.path().join("weir.log"))?)
    }

    /// Stops it in peace: exit code 0, no ` ERROR ` and no panic in its log, and no broker is left behind.
    ///
    /// # Errors
    /// One of these is not so.
    pub fn finish(mut self) -> Result<()> {
        self.process.stop().with_context(|| self.log().unwrap_or_default())?;
        let log = self.log()?;
        let bad: Vec<&str> =
            log.lines().filter(|line| line.contains(" ERROR ") || line.contains("panicked at")).collect();
        if !bad.is_empty() {
            bail!("the brokers' log has errors:\n{}", bad.join("\n"));
        }
        for member in &self.members {
            ensure!(member.pid()?.is_none(), "{} still runs", member.name);
        }
        self.finished = true;
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.finished {
            eprintln!("the brokers' log:\n{}", self.log().unwrap_or_default());
        }
    }
}
