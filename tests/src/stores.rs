//! Object stores for tests: servers that speak S3, each with an empty bucket. MinIO and versitygw keep what they promise;
//! s3s-fs lets several writers win a race, and is there to be refused.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use tempfile::TempDir;

use crate::clock::Deadline;
use crate::dice::Dice;
use crate::http::http_get;
use crate::places;
use crate::process::{Process, nicest};

/// The keys of every store in the tests, and its bucket.
const USER: &str = "weir";
const PASSWORD: &str = "weirsecret";
const BUCKET: &str = "weir";
/// The key that a MinIO of a test's own has in its key management.
pub const KMS_KEY: &str = "weir-key";

/// The store of a broker whose test leaves it open: by turns those that `WEIR_TEST_STORE` names, which `cargo xtask test`
/// sets: addresses of servers, each with this module's keys and bucket, `folder` (nothing is given), or `memory`.
#[must_use]
pub fn next() -> Option<String> {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let named = std::env::var("WEIR_TEST_STORE").ok()?;
    let stores: Vec<&str> = named.split(',').collect();
    match stores[TURN.fetch_add(1, Ordering::Relaxed) % stores.len()] {
        "" | "folder" => None,
        "memory" => Some("memory://".to_owned()),
        server => Some(S3::new_store_at(server)),
    }
}

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// MinIO.
    MinIo,
    /// versitygw over a folder: code independent of MinIO's.
    VersityGw,
    /// s3s-fs: checks a condition and writes later.
    S3sFs,
}

impl Kind {
    /// The program's name in the cache of installed tools.
    const fn program(self) -> &'static str {
        match self {
            Self::MinIo => "minio",
            Self::VersityGw => "versitygw",
            Self::S3sFs => "s3s-fs",
        }
    }

    fn command(self, port: u16, data: &Path) -> Result<Command> {
        let mut command = Command::new(places::installed(&format!("bin/{}", self.program()))?);
        let address = format!("127.0.0.1:{port}");
        match self {
            Self::MinIo => {
                command.args(["server", "--quiet", "--address", &address]).arg(data);
                command.envs([("MINIO_ROOT_USER", USER), ("MINIO_ROOT_PASSWORD", PASSWORD)]);
                command.envs([("MINIO_BROWSER", "off"), ("MINIO_UPDATE", "off")]);
                // Whoever asks may see how many requests came: the benchmarks count them.
                command.env("MINIO_PROMETHEUS_AUTH_TYPE", "public");
                // 32 bytes in base64.
                command.env("MINIO_KMS_SECRET_KEY", format!("{KMS_KEY}:{}=", "A".repeat(43)));
            }
            Self::VersityGw => {
                command.args(["--port", &address, "-a", USER, "-s", PASSWORD, "-q", "posix"]).arg(data);
            }
            Self::S3sFs => {
                command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
                command.args(["--access-key", USER, "--secret-key", PASSWORD]).arg(data);
            }
        }
        Ok(command)
    }

    /// Whether the server answers as one that has started.
    fn is_ready(self, address: &str) -> bool {
        match self {
            Self::MinIo => http_get(address, "/minio/health/ready").is_ok_and(|(status, _)| status == 200),
            // Without a signature both refuse, once they are there.
            Self::VersityGw | Self::S3sFs => http_get(address, "/").is_ok(),
        }
    }
}

/// A running object store; gone with this value where it is of this test.
#[derive(Debug)]
pub struct S3 {
    url: String,
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    kind: Kind,
    port: u16,
    // In this order: the server ends before its folder goes.
    process: Process,
    folder: TempDir,
}

impl S3 {
    /// Starts one; of MinIO, the one that `cargo xtask test` started (`WEIR_TEST_S3`) serves all tests.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(kind: Kind) -> Result<Self> {
        match std::env::var("WEIR_TEST_S3") {
            Ok(url) if kind == Kind::MinIo => Ok(Self { url, own: None }),
            _ => Self::start_own(kind),
        }
    }

    /// Starts one that no other test uses: it may be stopped and started again.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_own(kind: Kind) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        // A folder that is there before the first start is a bucket.
        std::fs::create_dir_all(folder.path().join("data").join(BUCKET))?;
        let port = places::ports()?;
        let process = launch(kind, port, folder.path())?;
        Ok(Self { url: format!("http://127.0.0.1:{port}"), own: Some(Own { kind, port, process, folder }) })
    }

    /// As [`S3::start_own`], at the lowest priority: it takes what processors nobody else wants.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_nicest(kind: Kind) -> Result<Self> {
        // A process has the priority of the thread that started it.
        let starting = std::thread::spawn(move || nicest().and_then(|()| Self::start_own(kind)));
        starting.join().map_err(|_| anyhow!("starting the store panicked"))?
    }

    /// Ends the server, as a machine that loses its power.
    ///
    /// # Errors
    /// It is not of this test, or the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        match &mut self.own {
            Some(own) => own.process.kill(),
            None => bail!("other tests use this store"),
        }
    }

    /// Starts the server again, where it was and with what it had.
    ///
    /// # Errors
    /// It is not of this test, or does not start.
    pub fn restart(&mut self) -> Result<()> {
        let Some(own) = &mut self.own else { bail!("other tests use this store") };
        own.process = launch(own.kind, own.port, own.folder.path())?;
        Ok(())
    }

    /// `HOST:PORT` of the server.
    #[must_use]
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://").trim_end_matches('/')
    }

    /// A store URL that no other test uses.
    #[must_use]
    pub fn new_store(&self) -> String {
        Self::new_store_at(&self.url)
    }

    /// A store URL that no other test uses, asked for at another address: a proxy's.
    #[must_use]
    pub fn new_store_at(endpoint: &str) -> String {
        let prefix = Dice::new(Dice::seed_from("WEIR_TEST_NO_SUCH_SEED")).bits();
        format!("s3://{BUCKET}/test-{prefix:016x}?endpoint={endpoint}&region=us-east-1")
    }

    /// The URL of a bucket that is not there.
    #[must_use]
    pub fn missing_bucket(&self) -> String {
        format!("s3://not-there-yet?endpoint={}&region=us-east-1", self.url)
    }

    /// What a broker needs in its environment to get in.
    #[must_use]
    pub fn credentials() -> Vec<(String, String)> {
        [("AWS_ACCESS_KEY_ID", USER), ("AWS_SECRET_ACCESS_KEY", PASSWORD)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec()
    }
}

/// Starts the server on the data in the folder, and waits until it answers.
fn launch(kind: Kind, port: u16, folder: &Path) -> Result<Process> {
    let name = kind.program();
    let address = format!("127.0.0.1:{port}");
    let mut command = kind.command(port, &folder.join("data"))?;
    command.stdout(Stdio::null()).stderr(Stdio::null()).current_dir(folder);
    let mut process = Process::start(name, &mut command)?;
    Deadline::after(Duration::from_secs(60)).wait(&format!("{name} is ready"), || {
        if let Some(status) = process.ended()? {
            bail!("{name} ended at its start: {status}");
        }
        Ok(kind.is_ready(&address).then_some(()))
    })?;
    Ok(process)
}
