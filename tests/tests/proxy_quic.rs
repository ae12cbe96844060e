//! A Kafka client over QUIC: kafka-python through `weir proxy`, which is all that the client sees.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use weir_tests::broker::Weir;
use weir_tests::clients::{Program, run_scenario_at};
use weir_tests::clock::Deadline;
use weir_tests::places;
use weir_tests::process::Process;

const PROGRAM: Program = Program::Python("python/kafka_python.py");

fn through_proxy(scenario: &str) -> Result<()> {
    let weir = Weir::start()?;
    let listen = format!("127.0.0.1:{}", places::ports()?);
    let mut command = Command::new(places::weir()?);
    command.args(["proxy", "--listen", &listen, "--to", &format!("quic://localhost:{}", weir.port())]);
    command.arg("--ca").arg(weir.ca()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut proxy = Process::start("weir proxy", &mut command)?;
    let stdout = proxy.stdout().context("the output is piped")?;
    let (sender, lines) = sync_channel(100);
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = sender.try_send(line);
        }
    });
    Deadline::after(Duration::from_secs(30)).wait("the proxy says `ready`", || {
        if let Some(status) = proxy.ended()? {
            bail!("the proxy ended: {status}");
        }
        Ok(lines.try_iter().any(|line| line == "ready").then_some(()))
    })?;
    run_scenario_at(PROGRAM, scenario, &listen)?;
    proxy.kill()?;
    weir.finish()
}

macro_rules! through_proxy {
    ($($scenario:ident),+) => {
        $(
            #[test]
            fn $scenario() -> Result<()> {
                through_proxy(stringify!($scenario))
            }
        )+
    };
}

through_proxy!(produce_consume, acks, group_rebalance, commit_resume, seek, compression, headers_nulls, large);
