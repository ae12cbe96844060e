//! Writes lines from standard input to a topic:
//! `cargo run -p weir-client --example produce -- quic://localhost:9092 TOPIC [CA.pem]`

use std::io::BufRead as _;
use std::sync::Arc;

use client::{Client, ClientConfig, Clock, Error, NewRecord, ProducerConfig, Timestamp, TlsOptions};

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
    let topic: Arc<str> = arguments.next().unwrap_or_else(|| "greetings".into()).into();
    let tls = TlsOptions { ca: arguments.next().map(Into::into), ..TlsOptions::default() };
    let client = Client::new(ClientConfig::new(target, Arc::new(WallClock)).tls(tls))?;

    let producer = client.producer(ProducerConfig::default())?;
    let mut deliveries = Vec::new();
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        deliveries.push(producer.send(NewRecord::to(topic.clone()).value(line)).await?);
    }
    producer.flush().await;
    for delivery in deliveries {
        let written = delivery.await?;
        println!("partition {} offset {:?}", written.partition, written.offset.map(|offset| offset.0));
    }
    producer.close().await?;
    client.close().await;
    Ok(())
}
