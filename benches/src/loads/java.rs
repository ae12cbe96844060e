//! Apache Kafka's own performance tools, and an open loop on its clients (`benches/java/OpenLoop.java`), since its tools
//! take the time from when a record was sent and not from when it was due.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::process;
use serde_json::Value;

use super::{Latency, Load, Said};
use crate::settings::RECORD;
use crate::systems::{self, System, Transport};

/// Within this a tool ends, whatever it does.
const WITHIN: Duration = Duration::from_secs(900);

/// A Java program with Kafka's jars.
fn java() -> Result<Command> {
    let mut java = Command::new("java");
    java.args(["-Xmx1g", "-Djava.awt.headless=true", "-Dlog4j2.level=ERROR", "-cp"]);
    java.arg(systems::class_path(Path::new("."))?);
    Ok(java)
}

/// What a client needs to know of a transport, as properties.
fn transport(system: &System, transport: Transport) -> Vec<(&'static str, String)> {
    match transport {
        Transport::Plain | Transport::Quic => vec![],
        Transport::Tls => vec![
            ("security.protocol", "SSL".into()),
            ("ssl.truststore.type", "PEM".into()),
            ("ssl.truststore.location", system.ca().display().to_string()),
        ],
    }
}

/// What a producer needs to know of a load, as `KEY=VALUE`.
fn producer(system: &System, load: &Load) -> Vec<String> {
    let mut properties = vec![("acks", "all".to_owned())];
    if load.batches == super::Batches::Large {
        properties.push(("batch.size", (1 << 20).to_string()));
        properties.push(("linger.ms", load.batches.linger_ms().to_string()));
        properties.push(("buffer.memory", (64 << 20).to_string()));
    }
    properties.extend(transport(system, load.transport));
    properties.into_iter().map(|(key, value)| format!("{key}={value}")).collect()
}

/// `ProducerPerformance`: so many bytes, as fast as it goes.
pub(crate) fn produce(system: &System, topic: &str, load: &Load, bytes: u64) -> Result<Said> {
    let records = bytes / RECORD;
    let mut tool = java()?;
    tool.arg("org.apache.kafka.tools.ProducerPerformance").args(["--topic", topic, "--throughput", "-1"]);
    tool.args(["--bootstrap-server", &system.bootstrap(load.transport)]);
    tool.args(["--num-records", &records.to_string(), "--record-size", &RECORD.to_string()]);
    tool.arg("--command-property").args(producer(system, load));
    let output = process::run(&mut tool, WITHIN)?;
    let line = output.lines().rfind(|line| line.contains("99th")).context("a summary of the run")?;
    ensure!(line.starts_with(&format!("{records} records sent")), "not all records arrived: {line}");
    let mib_per_s =
        line.split_once('(').and_then(|(_, rest)| rest.split_once(" MB/sec")).context("MB/sec")?.0.parse()?;
    Ok(Said { payload: records * RECORD, mib_per_s, latency: None })
}

/// `ConsumerPerformance`: so many bytes from the start of the topic.
pub(crate) fn consume(system: &System, topic: &str, over: Transport, bytes: u64) -> Result<Said> {
    let records = bytes / RECORD;
    let mut properties = String::new();
    for (key, value) in transport(system, over) {
        writeln!(properties, "{key}={value}")?;
    }
    let config = tempfile::NamedTempFile::new()?;
    std::fs::write(config.path(), properties)?;
    let mut tool = java()?;
    tool.arg("org.apache.kafka.tools.ConsumerPerformance").args([
        "--topic",
        topic,
        "--timeout",
        "60000",
        "--hide-header",
    ]);
    tool.args(["--bootstrap-server", &system.bootstrap(over), "--num-records", &records.to_string()]);
    tool.arg("--command-config").arg(config.path());
    let output = process::run(&mut tool, WITHIN)?;
    // start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms,
    // fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec
    let row = output.lines().rfind(|line| line.split(", ").count() >= 10).context("a row of figures")?;
    let field = |index| row.split(", ").nth(index).map(str::trim).context("ten figures");
    let consumed: u64 = field(4)?.parse()?;
    ensure!(consumed >= records, "not all records came: {row}");
    // Without the time for joining the group.
    Ok(Said { payload: consumed * RECORD, mib_per_s: field(8)?.parse()?, latency: None })
}

/// An open loop at a rate in records a second, for a time. The latencies are those of the acknowledgements, or those to a
/// consumer in the same program where `end_to_end`. The first seconds are left out of them.
pub(crate) fn open_loop(
    system: &System,
    topic: &str,
    load: &Load,
    rate: u64,
    time: Duration,
    end_to_end: bool,
) -> Result<Said> {
    let warm = if time.as_secs() >= 20 { 5 } else { 1 };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("java/OpenLoop.java");
    let mut tool = java()?;
    tool.arg(source).args([&system.bootstrap(load.transport), topic]);
    tool.args([rate, warm, time.as_secs(), RECORD].map(|number| number.to_string()));
    tool.arg(if end_to_end { "e2e" } else { "acks" });
    tool.args(producer(system, load));
    if end_to_end {
        // One record at a time: nothing is gathered.
        tool.arg("linger.ms=0");
    }
    tool.args(transport(system, load.transport).into_iter().map(|(key, value)| format!("consumer.{key}={value}")));
    let output = process::run(&mut tool, WITHIN)?;
    let line = output.lines().rfind(|line| line.starts_with('{')).context("a line of JSON")?;
    let json: Value = serde_json::from_str(line)?;
    ensure!(json["failed"] == 0 && json["acked"] == json["seen"], "records failed or did not come: {line}");
    let number = |value: &Value| value.as_f64().with_context(|| format!("a number is missing: {line}"));
    let of = &json[if end_to_end { "e2e_ms" } else { "ack_ms" }];
    let latency = Latency {
        p50: number(&of["p50"])?,
        p99: number(&of["p99"])?,
        p999: number(&of["p999"])?,
        max: number(&of["max"])?,
    };
    let payload = json["acked"].as_u64().context("a number of records")? * RECORD;
    Ok(Said { payload, mib_per_s: number(&json["mib_per_s"])?, latency: Some(latency) })
}
