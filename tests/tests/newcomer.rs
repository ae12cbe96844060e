//! The two scripts that every Kafka newcomer writes in Python, word for word but for the port: a producer that ends at
//! once without `flush()`, to a topic that does not exist yet, and a consumer of it in a group.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
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
    let output = tempfile::NamedTempFile::new()?;
    let mut command = Command::new(python()?);
    command.args(["-u", "-c", &consumer]).stdout(output.reopen()?).stderr(Stdio::inherit());
    let mut process = Process::start("the newcomer's consumer", &mut command)?;
    let mut shown = |expected: &[String]| -> Result<()> {
        Deadline::after(Duration::from_secs(30)).wait("the consumer shows every line", || {
            ensure!(process.ended()?.is_none(), "the consumer has ended");
            let text = std::fs::read_to_string(output.path())?;
            let mut values: Vec<&str> = text.lines().filter_map(|line| line.splitn(3, ' ').nth(2)).collect();
            // The partitions' records come in any order.
            values.sort_unstable();
            Ok((values == expected).then_some(()))
        })
    };
    let once: Vec<String> = (0..LINES).map(|number| format!("line {number}")).collect();
    shown(&once)?;
    // Everything was sent by a producer that ended at once: another one's records come, too.
    run(Command::new(python()?).args(["-c", &producer]), Duration::from_secs(30))?;
    let twice: Vec<String> = once.iter().flat_map(|line| [line.clone(), line.clone()]).collect();
    shown(&twice)?;
    process.kill()?;
    weir.finish()
}
