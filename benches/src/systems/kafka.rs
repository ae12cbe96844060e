//! Apache Kafka 4, one node that is broker and controller (KRaft), with the flags that its own start script gives the JVM.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use harness::clock::{Deadline, WallClock};
use harness::process::{self, Process};
use tempfile::TempDir;
use tls::dev::LOCAL_NAMES;

use super::Kind;

const READY_WITHIN: Duration = Duration::from_secs(120);
/// What kafka-run-class.sh and kafka-server-start.sh give the JVM where nothing else is said.
const JVM: [&str; 8] = [
    "-Xms1g",
    "-Xmx1g",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
];
const CLUSTER_ID: &str = "d2VpcmJlbmNobWFya3NrYQ";

/// A running one; killed, and its folder removed, with this value.
#[derive(Debug)]
pub(crate) struct Kafka {
    process: Process,
    folder: TempDir,
    port: u16,
    ca: PathBuf,
    syncs: bool,
}

impl Kafka {
    /// Starts one and waits until it answers. `syncs`: each append is synced before it is answered.
    pub(crate) fn start(syncs: bool) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("weir-kafka-").tempdir()?;
        let port = harness::places::ports()?;
        let names = LOCAL_NAMES.map(str::to_owned);
        let files = tls::dev::ensure(&folder.path().join("tls"), &names, &WallClock)?;
        // Java wants key and certificates in one file.
        let identity = folder.path().join("identity.pem");
        let chain = fs::read_to_string(&files.server.certificate)?;
        fs::write(&identity, format!("{}{chain}", fs::read_to_string(&files.server.key)?))?;
        let properties = folder.path().join("server.properties");
        fs::write(&properties, Self::properties(folder.path(), port, &identity, syncs))?;
        let logging = folder.path().join("log4j2.properties");
        fs::write(&logging, LOGGING)?;
        let java = |class: &str| -> Result<Command> {
            let mut java = Command::new("java");
            java.args(JVM).arg(format!("-Dlog4j2.configurationFile={}", logging.display()));
            java.arg("-cp").arg(super::class_path(folder.path())?).arg(class);
            Ok(java)
        };
        let mut format = java("kafka.tools.StorageTool")?;
        format.args(["format", "--standalone", "--cluster-id", CLUSTER_ID, "--config"]).arg(&properties);
        process::run(&mut format, READY_WITHIN)?;
        let log = folder.path().join("kafka.log");
        let mut start = java("kafka.Kafka")?;
        start.arg(&properties).stdout(process::append(&log)?).stderr(Stdio::from(process::append(&log)?));
        let mut process = Process::start("Kafka", &mut start)?;
        Deadline::after(READY_WITHIN).wait("Kafka answers", || {
            if let Some(status) = process.ended()? {
                bail!("Kafka ended at its start: {status}\n{}", fs::read_to_string(&log).unwrap_or_default());
            }
            Ok((brokers(port).unwrap_or(0) == 1).then_some(()))
        })?;
        Ok(Self { process, folder, port, ca: files.ca, syncs })
    }

    pub(crate) fn kind(&self) -> Kind {
        if self.syncs { Kind::KafkaSync } else { Kind::KafkaCache }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(crate) fn plain(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn tls(&self) -> String {
        format!("127.0.0.1:{}", self.port + 1)
    }

    pub(crate) fn ca(&self) -> &Path {
        debug_assert!(self.ca.starts_with(self.folder.path()));
        &self.ca
    }

    fn properties(folder: &Path, port: u16, identity: &Path, syncs: bool) -> String {
        let (tls, controller) = (port + 1, port + 2);
        let (data, identity) = (folder.join("data"), identity.display());
        let mut properties = format!(
            "process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},SSL://127.0.0.1:{tls},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SSL://127.0.0.1:{tls}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SSL:SSL,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
log.dirs={}
ssl.keystore.type=PEM
ssl.keystore.location={identity}
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.segment.delete.delay.ms=1000
",
            data.display()
        );
        if syncs {
            properties += "log.flush.interval.messages=1\n";
        }
        properties
    }
}

/// Warnings and worse.
const LOGGING: &str = "status = error
appender.c.type = Console
appender.c.name = C
appender.c.layout.type = PatternLayout
appender.c.layout.pattern = [%d] %p %m (%c)%n
rootLogger.level = WARN
rootLogger.appenderRef.c.ref = C
";

/// A Metadata request, version 4, for no topic, and how many brokers the answer names.
fn brokers(port: u16) -> Result<u32> {
    const REQUEST: [u8; 19] = [0, 0, 0, 15, 0, 3, 0, 4, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0, 0];
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(&REQUEST)?;
    // Length, correlation id, throttle time, number of brokers.
    let mut answer = [0; 16];
    stream.read_exact(&mut answer)?;
    let brokers = answer.last_chunk().context("16 bytes hold four more")?;
    Ok(u32::from_be_bytes(*brokers))
}
