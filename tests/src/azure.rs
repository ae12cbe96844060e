//! An Azure Blob Storage for tests: the Azurite emulator, in memory, with an empty container.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::clock::Deadline;
use crate::dice::Dice;
use crate::http::http_get;
use crate::places;
use crate::process::{Process, run};

const CONTAINER: &str = "weir";
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A running emulator; gone with this value.
#[derive(Debug)]
pub struct Azurite {
    port: u16,
    _process: Process,
}

impl Azurite {
    /// Starts one.
    ///
    /// # Errors
    /// It does not start.
    pub fn start() -> Result<Self> {
        let program = places::installed("azurite/node_modules/.bin/azurite-blob")?;
        let port = places::ports()?;
        let mut command = Command::new(program);
        command.args(["--silent", "--disableTelemetry", "--inMemoryPersistence", "--skipApiVersionCheck"]);
        command.args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = Process::start("azurite", &mut command)?;
        Deadline::after(READY_WITHIN).wait("azurite is ready", || {
            if let Some(status) = process.ended()? {
                bail!("azurite ended at its start: {status}");
            }
            Ok(http_get(&format!("127.0.0.1:{port}"), "/").is_ok().then_some(()))
        })?;
        let mut make = Command::new("node");
        make.arg(places::client("azurite/create-container.mjs")).args([&port.to_string(), CONTAINER]);
        run(&mut make, READY_WITHIN)?;
        Ok(Self { port, _process: process })
    }

    /// A store URL that no other test uses.
    #[must_use]
    pub fn new_store(&self) -> String {
        let prefix = Dice::new(Dice::seed_from("WEIR_TEST_NO_SUCH_SEED")).bits();
        format!("az://{CONTAINER}/test-{prefix:016x}?use_emulator=true")
    }

    /// What a broker needs in its environment to find it.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        vec![("AZURITE_BLOB_STORAGE_URL".to_owned(), format!("http://127.0.0.1:{}", self.port))]
    }
}
