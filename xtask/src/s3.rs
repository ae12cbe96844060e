//! Servers that speak S3 for the tests: on a free port of the loopback, with an empty bucket `weir`, gone with the value.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Result, bail};

use crate::{
    cache::{Context, TemporaryFolder},
    process::{Moment, Running},
};

const READY_WITHIN: Duration = Duration::from_secs(60);
const USER: &str = "weir";
const PASSWORD: &str = "weirsecret";

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    MinIo,
    VersityGw,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::MinIo, Self::VersityGw];

    /// The tool that it is, which is its program too.
    pub(crate) const fn tool(self) -> &'static str {
        match self {
            Self::MinIo => "minio",
            Self::VersityGw => "versitygw",
        }
    }

    fn command(self, context: &Context, address: &str, data: &Path) -> Command {
        let mut command = Command::new(context.bin(self.tool()));
        match self {
            Self::MinIo => {
                command.args(["server", "--quiet", "--address", address]).arg(data);
                command.envs([("MINIO_ROOT_USER", USER), ("MINIO_ROOT_PASSWORD", PASSWORD)]);
                command.envs([("MINIO_BROWSER", "off"), ("MINIO_UPDATE", "off")]);
            }
            Self::VersityGw => {
                command.args(["--port", address, "-a", USER, "-s", PASSWORD, "-q", "posix"]).arg(data);
            }
        }
        command
    }

    /// Whether an answer's first line is that of a server which has started.
    fn is_ready(self, answer: &str) -> bool {
        match self {
            Self::MinIo => answer.contains(" 200"),
            // Without a signature it refuses, once it is there.
            Self::VersityGw => answer.starts_with("HTTP/"),
        }
    }
}

pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) url: String,
    // In this order: the server ends before its folder goes.
    _running: Running,
    _folder: TemporaryFolder,
}

impl Server {
    pub(crate) fn start(context: &Context, kind: Kind) -> Result<Self> {
        let name = kind.tool();
        let folder = TemporaryFolder::new(name)?;
        // A folder that is there before the first start is a bucket.
        fs::create_dir_all(folder.0.join("data/weir"))?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let log = fs::File::create(context.log(name)?)?;
        let mut command = kind.command(context, &address, &folder.0.join("data"));
        command.current_dir(&folder.0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut running = Running::start(&mut command)?;
        let started = Moment::now();
        while !first_line(&address).is_ok_and(|line| kind.is_ready(&line)) {
            if let Some(status) = running.ended()? {
                bail!("{name} ended at its start: {status}; see target/xtask/{name}.log");
            }
            if started.elapsed() > READY_WITHIN {
                bail!("{name} was not ready after {} s; see target/xtask/{name}.log", READY_WITHIN.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { kind, url: format!("http://{address}"), _running: running, _folder: folder })
    }
}

/// What the server answers first when it is asked for its health.
fn first_line(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    write!(stream, "GET /minio/health/ready HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
