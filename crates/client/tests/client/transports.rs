//! TCP, TLS and QUIC carry the same.

use std::sync::atomic::Ordering;
use std::time::Duration;

use client::{
    Client, ConsumerConfig, Error, ErrorKind, NewRecord, ProducerConfig, StartAt, TlsOptions, TopicPartition,
};
use tls::{ClientAuth, Server, ServerSettings};

use crate::broker::{Cluster, Listen};
use crate::{WallClock, config};

struct Identities {
    dir: tempfile::TempDir,
    files: tls::dev::Files,
}

fn identities() -> Identities {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = tls::dev::LOCAL_NAMES.iter().map(|name| (*name).to_owned()).collect();
    let files = tls::dev::ensure(dir.path(), &names, &WallClock).unwrap();
    Identities { dir, files }
}

impl Identities {
    fn server(&self, client_auth: ClientAuth) -> std::sync::Arc<Server> {
        Server::load(ServerSettings { identity: self.files.server.clone(), client_auth }).unwrap()
    }

    fn trust(&self) -> TlsOptions {
        TlsOptions { ca: Some(self.files.ca.clone()), ..TlsOptions::default() }
    }
}

async fn round_trip(client: &Client) {
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let value = vec![b'v'; 100_000];
    for number in 0..20_i64 {
        let delivery = producer.send(NewRecord::to("t").partition(0).value(value.clone())).await.unwrap();
        assert_eq!(delivery.await.unwrap().offset.unwrap().0, number);
    }
    let config = ConsumerConfig { start_at: StartAt::Earliest, ..ConsumerConfig::default() };
    let mut consumer = client.consumer(config).unwrap();
    consumer.assign([TopicPartition::new("t", 0)]).await.unwrap();
    let mut read = 0;
    while read < 20 {
        for record in consumer.poll(Duration::from_secs(10)).await.unwrap() {
            assert_eq!(record.value.unwrap(), value);
            read += 1;
        }
    }
    producer.close().await.unwrap();
    consumer.close().await.unwrap();
    client.close().await;
}

#[tokio::test]
async fn quic_carries_each_connection_as_a_stream_of_one() {
    let identities = identities();
    let mut cluster = Cluster::empty();
    cluster.add(1, Listen::Quic(identities.server(ClientAuth::None))).await;
    cluster.topic("t", 1, 1);
    let client = Client::new(config(&cluster.url("quic")).tls(identities.trust())).unwrap();
    round_trip(&client).await;
    assert_eq!(cluster.shared.quic_connections.load(Ordering::Relaxed), 1);
    assert!(cluster.shared.connections.load(Ordering::Relaxed) >= 3, "control, produce, fetch");
}

#[tokio::test]
async fn tls_carries_the_same() {
    let identities = identities();
    let mut cluster = Cluster::empty();
    cluster.add(1, Listen::Tls(identities.server(ClientAuth::None))).await;
    cluster.topic("t", 1, 1);
    let client = Client::new(config(&cluster.url("kafkas")).tls(identities.trust())).unwrap();
    round_trip(&client).await;
}

#[tokio::test]
async fn a_server_that_asks_is_shown_the_clients_certificate() {
    let identities = identities();
    let client_files = tls::dev::ensure_client(identities.dir.path(), "alice", &WallClock).unwrap();
    let auth = || ClientAuth::Required { ca: identities.files.ca.clone() };
    for (scheme, listen) in
        [("kafkas", Listen::Tls(identities.server(auth()))), ("quic", Listen::Quic(identities.server(auth())))]
    {
        let mut cluster = Cluster::empty();
        cluster.add(1, listen).await;
        cluster.topic("t", 1, 1);
        let shown = TlsOptions {
            cert: Some(client_files.certificate.clone()),
            key: Some(client_files.key.clone()),
            ..identities.trust()
        };
        round_trip(&Client::new(config(&cluster.url(scheme)).tls(shown)).unwrap()).await;
        let anonymous = Client::new(config(&cluster.url(scheme)).tls(identities.trust())).unwrap();
        let error = anonymous.ping().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{scheme}: {error}");
    }
}

#[tokio::test]
async fn a_server_of_another_authority_is_refused_unless_anybody_will_do() {
    let (identities, others) = (identities(), identities());
    for (scheme, listen) in [
        ("kafkas", Listen::Tls(identities.server(ClientAuth::None))),
        ("quic", Listen::Quic(identities.server(ClientAuth::None))),
    ] {
        let mut cluster = Cluster::empty();
        cluster.add(1, listen).await;
        let wary = Client::new(config(&cluster.url(scheme)).tls(others.trust())).unwrap();
        let error = wary.ping().await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{scheme}: {error}");
        let insecure = TlsOptions { insecure: true, ..TlsOptions::default() };
        Client::new(config(&cluster.url(scheme)).tls(insecure)).unwrap().ping().await.unwrap();
    }
}

#[tokio::test]
async fn nobody_there_is_said_in_a_sentence() {
    for url in ["kafka://127.0.0.1:1", "quic://127.0.0.1:1"] {
        let mut config = config(url).tls(TlsOptions { insecure: true, ..TlsOptions::default() });
        config.connect_timeout = Duration::from_millis(300);
        let error = Client::new(config).unwrap().ping().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        assert!(error.to_string().starts_with("cannot reach 127.0.0.1:1: "), "{error}");
    }
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused() {
    let half = TlsOptions { cert: Some("client.pem".into()), insecure: true, ..TlsOptions::default() };
    assert!(matches!(Client::new(config("quic://localhost").tls(half)), Err(Error::Config(_))));
    let missing = TlsOptions { ca: Some("/nowhere/ca.pem".into()), ..TlsOptions::default() };
    assert!(matches!(Client::new(config("quic://localhost").tls(missing)), Err(Error::Tls(_))));
}
