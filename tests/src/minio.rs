//! An object store for a test: the MinIO that `cargo xtask test` started (`WEIR_TEST_S3`), or one of its own.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::clock::Deadline;
use crate::process::Process;
use crate::{dice::Dice, places};

/// The keys of every MinIO in the tests, and their bucket.
const USER: &str = "weir";
const PASSWORD: &str = "weirsecret";
const BUCKET: &str = "weir";

/// A running object store; gone with this value where it is of this test.
#[derive(Debug)]
pub struct MinIo {
    url: String,
    _own: Option<(Process, TempDir)>,
}

impl MinIo {
    /// Finds or starts one.
    ///
    /// # Errors
    /// It does not start.
    pub fn start() -> Result<Self> {
        if let Ok(url) = std::env::var("WEIR_TEST_S3") {
            return Ok(Self { url, _own: None });
        }
        let folder = tempfile::tempdir()?;
        // A folder that is there before the first start is a bucket.
        std::fs::create_dir_all(folder.path().join("data").join(BUCKET))?;
        let address = format!("127.0.0.1:{}", places::ports()?);
        let mut command = Command::new(places::installed("bin/minio")?);
        command.args(["server", "--quiet", "--address", &address]).arg(folder.path().join("data"));
        command.envs([("MINIO_ROOT_USER", USER), ("MINIO_ROOT_PASSWORD", PASSWORD)]);
        command.envs([("MINIO_BROWSER", "off"), ("MINIO_UPDATE", "off")]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = Process::start("MinIO", &mut command)?;
        Deadline::after(Duration::from_secs(60)).wait("MinIO is ready", || {
            if let Some(status) = process.ended()? {
                bail!("MinIO ended at its start: {status}");
            }
            Ok(http_get(&address, "/minio/health/ready").is_ok_and(|(status, _)| status == 200).then_some(()))
        })?;
        Ok(Self { url: format!("http://{address}"), _own: Some((process, folder)) })
    }

    /// A store URL that no other test uses.
    #[must_use]
    pub fn new_store(&self) -> String {
        let prefix = Dice::new(Dice::seed_from("WEIR_TEST_NO_SUCH_SEED")).bits();
        format!("s3://{BUCKET}/test-{prefix:016x}?endpoint={}&region=us-east-1", self.url)
    }

    /// What a broker needs in its environment to get in.
    #[must_use]
    pub fn credentials() -> Vec<(String, String)> {
        [("AWS_ACCESS_KEY_ID", USER), ("AWS_SECRET_ACCESS_KEY", PASSWORD)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec()
    }
}

/// Status and body of a GET.
///
/// # Errors
/// No answer within some seconds.
pub fn http_get(address: &str, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok()).context("an HTTP status line")?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}
