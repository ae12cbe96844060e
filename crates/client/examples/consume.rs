//! Reads a topic as a member of a group, until nothing has come for ten seconds:
//! `cargo run -p weir-client --example consume -- quic://localhost:9092 TOPIC GROUP [CA.pem]`

use std::sync::Arc;
use std::time::Duration;

use client::{Client, ClientConfig, Clock, ConsumerConfig, Error, StartAt, Timestamp, TlsOptions};

/// The machine's clock: a program brings its own, so that tests can too.
struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "a program's edge, where time comes in")]
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let target = arguments.next().unwrap_or_else(|| "quic://localhost:9092".into()).parse()?;
    let topic = arguments.next().unwrap_or_else(|| "greetings".into());
    let group = arguments.next().unwrap_or_else(|| "readers".into());
    let tls = TlsOptions { ca: arguments.next().map(Into::into), ..TlsOptions::default() };
    let client = Client::new(ClientConfig::new(target, Arc::new(WallClock)).tls(tls))?;

    let config = ConsumerConfig { start_at: StartAt::Earliest, ..ConsumerConfig::group(group) };
    let mut consumer = client.consumer(config)?;
    consumer.subscribe([topic]).await?;
    loop {
        let records = consumer.poll(Duration::from_secs(10)).await?;
        if records.is_empty() {
            break;
        }
        for record in records {
            let value = record.value.unwrap_or_default();
            println!("{}/{} {}: {}", record.topic, record.partition, record.offset, String::from_utf8_lossy(&value));
        }
        consumer.commit().await?;
    }
    consumer.close().await?;
    client.close().await;
    Ok(())
}
