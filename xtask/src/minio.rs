//! A MinIO for the tests: on a free port of the loopback, with an empty bucket `weir`, gone with the value.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Result, bail};

use crate::{
    cache::{Context, TemporaryFolder},
    process::{Moment, Running},
};

const READY_WITHIN: Duration = Duration::from_secs(60);

pub(crate) struct MinIo {
    pub(crate) url: String,
    // In this order: the server ends before its folder goes.
    _running: Running,
    _folder: TemporaryFolder,
}

impl MinIo {
    pub(crate) fn start(context: &Context) -> Result<Self> {
        let folder = TemporaryFolder::new("minio")?;
        // A folder that is there before the first start is a bucket.
        fs::create_dir_all(folder.0.join("data/weir"))?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let log = fs::File::create(context.log("minio")?)?;
        let mut command = Command::new(context.bin("minio"));
        command.args(["server", "--quiet", "--address", &address]).arg(folder.0.join("data"));
        command.envs([("MINIO_ROOT_USER", "weir"), ("MINIO_ROOT_PASSWORD", "weirsecret")]);
        command.envs([("MINIO_BROWSER", "off"), ("MINIO_UPDATE", "off")]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut running = Running::start(&mut command)?;
        let started = Moment::now();
        while !is_ready(&address) {
            if let Some(status) = running.ended()? {
                bail!("MinIO ended at its start: {status}; see target/xtask/minio.log");
            }
            if started.elapsed() > READY_WITHIN {
                bail!("MinIO was not ready after {} s; see target/xtask/minio.log", READY_WITHIN.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { url: format!("http://{address}"), _running: running, _folder: folder })
    }
}

fn is_ready(address: &str) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(stream, "GET /minio/health/ready HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(answer.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}
