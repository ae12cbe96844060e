//! `weir bench` as a load, and `weir topic` for making topics, against any broker that speaks Kafka.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::{places, process};
use serde_json::Value;

use super::{Latency, Load, Said};
use crate::settings::{MIB, RECORD};
use crate::systems::{System, Transport};

/// How long a run may take beyond the time that it is given.
const LATE: Duration = Duration::from_secs(180);

fn weir(system: &System, transport: Transport, words: &[&str]) -> Result<Command> {
    let mut command = Command::new(places::weir()?);
    command.args(words).args(["--to", &system.url(transport)]);
    if transport != Transport::Plain {
        command.arg("--ca").arg(system.ca());
    }
    Ok(command)
}

/// Makes a topic.
pub(crate) fn create(system: &System, topic: &str, partitions: u32) -> Result<()> {
    let partitions = partitions.to_string();
    let mut create =
        weir(system, Transport::Plain, &["topic", "create", topic, "--if-not-exists", "--partitions", &partitions])?;
    process::run(&mut create, LATE)?;
    Ok(())
}

/// Deletes a topic, so that the disk does not fill.
pub(crate) fn delete(system: &System, topic: &str) -> Result<()> {
    process::run(&mut weir(system, Transport::Plain, &["topic", "delete", topic])?, LATE)?;
    Ok(())
}

/// As fast as it goes, or at a rate in records a second, for a time.
pub(crate) fn produce(system: &System, topic: &str, load: &Load, rate: Option<u64>, time: Duration) -> Result<Said> {
    let mut bench = weir(system, load.transport, &["bench", "produce", topic])?;
    add_load(&mut bench, load, rate, time);
    said(&mut bench, time)
}

/// From the moment at which a record was due to the moment at which a consumer has it.
pub(crate) fn end_to_end(system: &System, topic: &str, load: &Load, rate: u64, time: Duration) -> Result<Said> {
    let mut bench = weir(system, load.transport, &["bench", "e2e", topic, "--linger-ms", "0"])?;
    bench.args(["--rate", &rate.to_string(), "--warmup-s", "2", "--duration-s", &time.as_secs().to_string()]);
    said(&mut bench, time)
}

/// Everything that the topic holds, from its start.
pub(crate) fn consume(system: &System, topic: &str, transport: Transport) -> Result<Said> {
    let mut bench = weir(system, transport, &["bench", "consume", topic, "--duration-s", "600"])?;
    said(&mut bench, Duration::from_secs(600))
}

fn add_load(bench: &mut Command, load: &Load, rate: Option<u64>, time: Duration) {
    // Without a warm-up: whatever the broker took is in the figures of its CPU, and so has to be in those of the load.
    bench.args(["--warmup-s", "0", "--duration-s", &time.as_secs().to_string(), "--size", &RECORD.to_string()]);
    bench.args(["--partitions", &load.partitions.to_string()]);
    bench.args(["--batch-bytes", &load.batches.bytes().to_string()]);
    bench.args(["--linger-ms", &load.batches.linger_ms().to_string()]);
    if load.spread {
        bench.arg("--spread");
    }
    if let Some(rate) = rate {
        bench.args(["--rate", &rate.to_string()]);
    }
}

fn said(bench: &mut Command, time: Duration) -> Result<Said> {
    let output = process::run(bench.args(["--output", "json"]), time + LATE)?;
    let json = output.get(output.find('{').context("weir bench prints JSON")?..).unwrap_or_default();
    let json: Value = serde_json::Deserializer::from_str(json).into_iter().next().context("JSON")??;
    let number = |value: &Value, name: &str| value[name].as_f64().with_context(|| format!("no {name} in {value}"));
    ensure!(json["errors"] == 0, "records failed: {json}");
    let latency = match &json["latency_ms"] {
        Value::Null => None,
        latency => Some(Latency {
            p50: number(latency, "p50")?,
            p99: number(latency, "p99")?,
            p999: number(latency, "p999")?,
            max: number(latency, "max")?,
        }),
    };
    let mib_per_s = number(&json, "mib_per_s")?;
    let records = json["records"].as_u64().context("a number of records")?;
    // Of a run that was limited by its end; what was read may be of another size than what we send.
    let payload = mib_per_s * number(&json, "duration_s")? * MIB as f64;
    let sized = (records * RECORD) as f64;
    ensure!((payload / sized - 1.0).abs() < 0.01, "not records of {RECORD} bytes: {json}");
    Ok(Said { payload: records * RECORD, mib_per_s, latency })
}
