//! Three brokers and one controller among them: any client, any broker to begin with; the controller dies and another
//! one takes over; what was acknowledged is there.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use weir_tests::clock::Deadline;
use weir_tests::cluster::{Cluster, Member};
use weir_tests::connection::Connection;
use weir_tests::places;

/// A client gives up after this: far longer than a takeover.
const CLIENT_WITHIN: &str = "30";
/// Topics can be made again this soon after the controller was killed.
const TAKEOVER_WITHIN: Duration = Duration::from_secs(3);

#[allow(clippy::disallowed_methods)] // Tests of real processes run in real time.
fn now() -> Instant {
    Instant::now()
}

fn kcat(bootstrap: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new("timeout");
    command.arg(CLIENT_WITHIN).arg(places::installed("bin/kcat")?).args(["-b", bootstrap]).args(arguments);
    Ok(command)
}

/// Sends values, each with its number as key.
fn produce(bootstrap: &str, topic: &str, values: std::ops::Range<u32>) -> Result<()> {
    let mut command = kcat(bootstrap, &["-P", "-t", topic, "-K", ":", "-X", "acks=all"])?;
    let mut client = command.stdin(Stdio::piped()).spawn()?;
    let mut input = client.stdin.take().context("the input is piped")?;
    for value in values {
        writeln!(input, "{value}:{value}")?;
    }
    drop(input);
    let status = client.wait()?;
    ensure!(status.success(), "kcat: {status}");
    Ok(())
}

/// All values of a topic, sorted.
fn consume(bootstrap: &str, topic: &str) -> Result<Vec<u32>> {
    let output = kcat(bootstrap, &["-C", "-t", topic, "-e", "-q", "-o", "beginning"])?.output()?;
    ensure!(output.status.success(), "kcat: {}", String::from_utf8_lossy(&output.stderr));
    let mut values: Vec<u32> = String::from_utf8(output.stdout)?.lines().map(str::parse).collect::<Result<_, _>>()?;
    values.sort_unstable();
    Ok(values)
}

/// Who leads the partitions of a topic, and how many brokers there are, as one broker says.
fn leaders(member: &Member, topic: &str) -> Result<(usize, Vec<i64>)> {
    let output = kcat(&member.kafka, &["-L", "-J", "-t", topic])?.output()?;
    let told: Value = serde_json::from_slice(&output.stdout)?;
    let partitions = told["topics"][0]["partitions"].as_array().context("partitions")?;
    let leaders = partitions.iter().map(|partition| partition["leader"].as_i64().unwrap_or(-1)).collect();
    Ok((told["brokers"].as_array().context("brokers")?.len(), leaders))
}

fn create(member: &Member, topic: &str, partitions: i32) -> Result<()> {
    Connection::open(&member.kafka)?.make_topic(topic, partitions, &[])
}

#[test]
fn every_broker_serves_its_part_and_tells_of_the_others() -> Result<()> {
    let cluster = Cluster::start(3, &[])?;
    create(&cluster.members[1], "shared", 6)?;
    let (brokers, expected) = leaders(&cluster.members[1], "shared")?;
    ensure!(brokers == 3, "{brokers} brokers");
    for broker in 1..=3 {
        let led = expected.iter().filter(|leader| **leader == broker).count();
        ensure!(led == 2, "broker {broker} leads {led} of six partitions");
    }
    for member in &cluster.members {
        let same = || Ok((leaders(member, "shared")? == (3, expected.clone())).then_some(()));
        Deadline::after(Duration::from_secs(5)).wait("all brokers say the same", same)?;
    }
    for (nth, member) in (0..).zip(&cluster.members) {
        produce(&member.kafka, "shared", nth * 100..nth * 100 + 100)?;
    }
    for member in &cluster.members {
        ensure!(consume(&member.kafka, "shared")? == (0..300).collect::<Vec<_>>(), "from {}", member.name);
    }
    // Groups: some are coordinated elsewhere, wherever one begins.
    for group in 0..6 {
        let group = format!("group-{group}");
        let first = &cluster.members[0].kafka;
        let output = kcat(first, &["-G", &group, "-q", "-c", "300", "-X", "auto.offset.reset=earliest", "shared"])?;
        let output = { output }.output()?;
        ensure!(output.status.success(), "{group}: {}", String::from_utf8_lossy(&output.stderr));
        ensure!(String::from_utf8(output.stdout)?.lines().count() == 300, "{group} reads all");
    }
    cluster.finish()
}

#[test]
fn the_controller_is_replaced_and_nothing_acknowledged_is_missing() -> Result<()> {
    let cluster = Cluster::start(3, &[])?;
    let mut sent = 0;
    create(&cluster.members[0], "kept", 6)?;
    for round in 0..3 {
        produce(&cluster.bootstrap(), "kept", sent..sent + 100)?;
        sent += 100;
        let controller = cluster.controller()?;
        let others: Vec<&Member> = cluster.members.iter().filter(|member| member.name != controller.name).collect();
        controller.kill()?;
        let killed = now();
        // It needs a controller, and leaders that live.
        create(others[0], &format!("new-{round}"), 4)?;
        let took = killed.elapsed();
        println!("round {round}: a topic was made {took:?} after {} was killed", controller.name);
        ensure!(took < TAKEOVER_WITHIN, "{took:?}");
        let only_the_living = || {
            let (brokers, leaders) = leaders(others[1], &format!("new-{round}"))?;
            Ok((brokers == 2 && leaders.len() == 4).then_some(()))
        };
        Deadline::after(Duration::from_secs(5)).wait("the dead broker is not told of", only_the_living)?;
        let back = || Ok((controller.is_ready() && leaders(others[1], "kept")?.0 == 3).then_some(()));
        Deadline::after(Duration::from_secs(20)).wait("the broker that was killed is back", back)?;
        ensure!(cluster.members.iter().filter(|member| member.is_controller()).count() == 1, "one controller");
        ensure!(consume(&cluster.bootstrap(), "kept")? == (0..sent).collect::<Vec<_>>(), "after round {round}");
    }
    cluster.finish()
}
