//! The client against a small cluster inside the test (see [`broker`]), which does wrong what a test asks it to. Tests of
//! [`real`] run against another cluster too, where `WEIR_CLIENT_TARGET` names one: a real Apache Kafka, say.

#![expect(clippy::unwrap_used, reason = "a test's helpers may panic as the test may")]

mod broker;
mod consume;
mod coordinator;
mod groups;
mod produce;
mod real;
mod transports;

use std::sync::Arc;
use std::time::Duration;

use client::{Client, ClientConfig, Clock, Timestamp};

/// The machine's clock: certificates are checked against it.
pub(crate) struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "certificates must be valid now")]
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Timestamp(now.as_millis().try_into().unwrap())
    }
}

/// Short waits: what a test waits for happens at once or never.
pub(crate) fn config(url: &str) -> ClientConfig {
    ClientConfig {
        retry_backoff_min: Duration::from_millis(2),
        retry_backoff_max: Duration::from_millis(50),
        ..ClientConfig::new(url.parse().unwrap(), Arc::new(WallClock))
    }
}

/// What the tests of [`real`] run against: how to connect, whether it is a real cluster, and what ends with the test.
pub(crate) async fn start() -> (ClientConfig, bool, Box<dyn std::any::Any + Send>) {
    match std::env::var("WEIR_CLIENT_TARGET") {
        Ok(url) => (config(&url), true, Box::new(())),
        Err(_) => {
            let cluster = broker::Cluster::start().await;
            (config(&cluster.url("kafka")), false, Box::new(cluster))
        }
    }
}

pub(crate) fn client(cluster: &broker::Cluster) -> Client {
    Client::new(config(&cluster.url("kafka"))).unwrap()
}
