//! The two scripts that every Kafka newcomer writes in Python, word for word but for the port: a producer that ends at
//! once without `flush()`, to a topic that does not exist yet, and a consumer of it in a group.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use weir_tests::broker::Weir;
use weir_tests::clients::python;
use weir_tests::clock::Deadline;
use weir_tests::places::client;
use weir_tests::process::{Process, run};

const LINES: usize = 10;

/// The script with one text put for another that it must have.
fn script(name: &str, from: &str, to: &str) -> Result<String> {
    let text = std::fs::read_to_string(client(name))?;
    ensure!(text.contains(from), "{name} has no {from}");
    Ok(text.replace(from, to))
}

#[test]
fn a_first_producer_and_a_first_consumer_just_work() -> Result<()> {
    let weir = Weir::start()?;
    let address = format!("localhost:{}", weir.port());
    let producer = script("python/newcomer_producer.py", "localhost:9092", &address)?;
    let said = run(Command::new(python()?).args(["-c", &producer]), Duration::from_secs(30))?;
    ensure!(said.is_empty(), "the producer complains: {said}");

    let with_address = format!("auto_offset_reset='earliest', bootstrap_servers='{address}')");
    let consumer = script("python/newcomer_consumer.py", "auto_offset_reset='earliest')", &with_address)?;
    let read = |expected: usize| -> Result<Vec<String>> {
        let output = tempfile::NamedTempFile::new()?;
        let mut command = Command::new(python()?);
        command.args(["-u", "-c", &consumer]).stdout(output.reopen()?).stderr(Stdio::inherit());
        let mut process = Process::start("the newcomer's consumer", &mut command)?;
        let lines = Deadline::after(Duration::from_secs(30)).wait("the consumer shows every line", || {
            ensure!(process.ended()?.is_none(), "the consumer has ended");
            let text = std::fs::read_to_string(output.path())?;
            Ok((text.lines().count() >= expected).then(|| text.lines().map(str::to_owned).collect::<Vec<_>>()))
        })?;
        // As a newcomer stops it.
        let pid = process.pid().to_string();
        Command::new("kill").args(["-INT", &pid]).status().context("cannot run kill")?;
        Deadline::after(Duration::from_secs(30)).wait("the consumer ends", || process.ended())?;
        Ok(lines)
    };
    let mut lines = read(LINES)?;
    lines.sort_by_key(|line| line.rsplit(' ').next().and_then(|number| number.parse::<usize>().ok()));
    let values: Vec<&str> = lines.iter().filter_map(|line| line.splitn(3, ' ').nth(2)).collect();
    let expected: Vec<String> = (0..LINES).map(|number| format!("line {number}")).collect();
    ensure!(values == expected, "{lines:?}");

    // Everything was sent by a producer that ended at once: a second run is there in full, too.
    run(Command::new(python()?).args(["-c", &producer]), Duration::from_secs(30))?;
    let again = read(LINES)?;
    ensure!(again.len() == LINES || again.len() == 2 * LINES, "{again:?}");
    weir.finish()
}
