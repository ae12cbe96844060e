//! Rewriting and following on their own, then a whole proxy between a TCP client and a QUIC broker of a few lines.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, Bytes};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use wire::{
    ApiKey, Message, RequestHeader, api_versions, decode_response_header, encode_request, encode_response, fetch,
    find_coordinator, metadata, produce,
};

use super::addresses::Proxy;
use super::rewrite::{Answer, names_addresses};
use super::scan::{Request, Scanner, Violation};
use super::upstream::Dialer;
use crate::environment::SystemClock;

const DEADLINE: Duration = Duration::from_secs(20);

fn request(version: i16, correlation_id: i32, body: &impl wire::Call) -> Bytes {
    fn key<M: Message>(_: &M) -> i16 {
        M::KEY.code()
    }
    let client_id = Some("a client".into());
    let header = RequestHeader { api_key: key(body), api_version: version, correlation_id, client_id };
    encode_request(&header, body).unwrap().into_bytes()
}

fn produce_request(version: i16, correlation_id: i32, acks: i16, bytes: usize) -> Bytes {
    let records = Some(wire::Records::from(Bytes::from(vec![7; bytes])));
    let partition_data = vec![produce::PartitionProduceData { index: 0, records, ..Default::default() }];
    let name = if version < 13 { "t".into() } else { "".into() };
    let topic_data = vec![produce::TopicProduceData { name, partition_data, ..Default::default() }];
    let transactional_id = Some("a transaction".into());
    request(version, correlation_id, &produce::Request { transactional_id, acks, topic_data, ..Default::default() })
}

fn scan(bytes: &[u8], step: usize) -> Result<Vec<Request>, Violation> {
    let mut scanner = Scanner::default();
    let mut found = Vec::new();
    for part in bytes.chunks(step) {
        scanner.feed(part, &mut found)?;
    }
    Ok(found)
}

#[test]
fn requests_are_followed_whatever_the_pieces_they_come_in() {
    let bytes = [
        request(4, 1, &api_versions::Request::default()),
        produce_request(3, 2, 1, 3000),
        produce_request(9, 3, -1, 10),
        // Not answered: it must not take a place in the queue.
        produce_request(8, 4, 0, 200_000),
        produce_request(13, 5, 0, 1),
        request(12, 6, &metadata::Request::default()),
    ]
    .concat();
    let expected: Vec<(i16, i16, i32)> = vec![(18, 4, 1), (0, 3, 2), (0, 9, 3), (3, 12, 6)];
    for step in [1, 7, 1000, bytes.len()] {
        let found = scan(&bytes, step).unwrap();
        let found: Vec<_> = found.iter().map(|one| (one.key, one.version, one.correlation_id)).collect();
        assert_eq!(found, expected, "in steps of {step}");
    }
}

#[test]
fn what_is_not_the_protocol_is_refused() {
    assert!(scan(&(-1_i32).to_be_bytes(), 1).is_err());
    assert!(scan(&[0, 0, 0, 4, 1, 2, 3, 4], 8).is_err());
    // A Produce whose frame ends before `acks`.
    assert!(scan(&[0, 0, 0, 10, 0, 0, 0, 9, 0, 0, 0, 1, 0xff, 0xff], 3).is_err());
}

proptest! {
    #[test]
    fn following_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400), step in 1_usize..50) {
        let _ = scan(&bytes, step);
    }
}

fn frame(key: ApiKey, version: i16, body: &impl Message) -> Bytes {
    encode_response(key, version, 42, body).unwrap().into_bytes().slice(4..)
}

fn rewritten(key: ApiKey, version: i16, body: &impl Message) -> Answer {
    let (correlation_id, mut answer) = Answer::decode(key, version, frame(key, version, body)).unwrap();
    assert_eq!(correlation_id, 42);
    for (index, endpoint) in answer.endpoints().iter_mut().enumerate() {
        if endpoint.get().is_some() {
            endpoint.set("here", 100 + u16::try_from(index).unwrap());
        }
    }
    // What the client gets decodes to the same.
    let bytes = answer.encode(version, correlation_id).unwrap().into_bytes();
    let length = u32::from_be_bytes(bytes[..4].try_into().unwrap());
    assert_eq!(length as usize, bytes.len() - 4);
    assert_eq!(Answer::decode(key, version, bytes.slice(4..)).unwrap(), (42, answer.clone()));
    answer
}

fn broker(node_id: i32, host: &str, port: i32) -> metadata::MetadataResponseBroker {
    metadata::MetadataResponseBroker { node_id, host: host.into(), port, rack: Some("z".into()), ..Default::default() }
}

#[test]
fn metadata_names_the_proxy_at_every_version_and_keeps_everything_else() {
    for version in 0..=13 {
        let brokers = vec![broker(1, "one", 9092), broker(2, "two", 9092)];
        let topic = metadata::MetadataResponseTopic { name: Some("t".into()), ..Default::default() };
        let body = metadata::Response { brokers, topics: vec![topic], ..Default::default() };
        let Answer::Metadata(after) = rewritten(ApiKey::Metadata, version, &body) else { panic!("another answer") };
        let addresses: Vec<_> = after.brokers.iter().map(|one| (one.host.to_string(), one.port)).collect();
        assert_eq!(addresses, [("here".to_owned(), 100), ("here".to_owned(), 101)]);
        assert_eq!(after.topics[0].name, body.topics[0].name);
        assert_eq!(after.brokers[1].node_id, 2);
    }
}

#[test]
fn a_coordinator_is_rewritten_and_a_missing_one_is_not() {
    let found = find_coordinator::Response { node_id: 1, host: "one".into(), port: 9092, ..Default::default() };
    let Answer::FindCoordinator(after) = rewritten(ApiKey::FindCoordinator, 2, &found) else { panic!() };
    assert_eq!((after.host.as_str(), after.port), ("here", 100));
    let coordinator =
        |host: &str, port| find_coordinator::Coordinator { host: host.into(), port, ..Default::default() };
    let coordinators = vec![coordinator("one", 9092), coordinator("", -1)];
    let found = find_coordinator::Response { coordinators, ..Default::default() };
    let Answer::FindCoordinator(after) = rewritten(ApiKey::FindCoordinator, 6, &found) else { panic!() };
    assert_eq!((after.coordinators[0].host.as_str(), after.coordinators[0].port), ("here", 100));
    assert_eq!((after.coordinators[1].host.as_str(), after.coordinators[1].port), ("", -1));
}

#[test]
fn hints_about_leaders_are_rewritten_in_produce_and_fetch() {
    let endpoint = produce::NodeEndpoint { node_id: 2, host: "two".into(), port: 9092, ..Default::default() };
    let body = produce::Response { node_endpoints: vec![endpoint], ..Default::default() };
    let Answer::Produce(after) = rewritten(ApiKey::Produce, 10, &body) else { panic!() };
    assert_eq!((after.node_endpoints[0].host.as_str(), after.node_endpoints[0].port), ("here", 100));
    let endpoint = fetch::NodeEndpoint { node_id: 2, host: "two".into(), port: 9092, ..Default::default() };
    let body = fetch::Response { node_endpoints: vec![endpoint], ..Default::default() };
    let Answer::Fetch(after) = rewritten(ApiKey::Fetch, 17, &body) else { panic!() };
    assert_eq!((after.node_endpoints[0].host.as_str(), after.node_endpoints[0].port), ("here", 100));
}

#[test]
fn only_answers_that_can_name_addresses_are_kept_back() {
    assert_eq!(names_addresses(3, 12), Some(ApiKey::Metadata));
    assert_eq!(names_addresses(10, 0), Some(ApiKey::FindCoordinator));
    assert_eq!(names_addresses(60, 0), Some(ApiKey::DescribeCluster));
    assert_eq!(names_addresses(0, 9), None);
    assert_eq!(names_addresses(0, 10), Some(ApiKey::Produce));
    assert_eq!(names_addresses(1, 15), None);
    assert_eq!(names_addresses(1, 16), Some(ApiKey::Fetch));
    assert_eq!(names_addresses(18, 4), None);
    assert_eq!(names_addresses(3, 99), None);
    assert_eq!(names_addresses(12345, 0), None);
}

/// A broker that answers Metadata with the given brokers and everything else with an ApiVersions answer.
struct FakeBroker {
    endpoint: quinn::Endpoint,
    address: SocketAddr,
    ca: std::path::PathBuf,
    _dir: tempfile::TempDir,
}

impl FakeBroker {
    fn start() -> FakeBroker {
        let dir = tempfile::tempdir().unwrap();
        let names: Vec<String> = tls::dev::LOCAL_NAMES.iter().map(|name| (*name).to_owned()).collect();
        let files = tls::dev::ensure(dir.path(), &names, &SystemClock).unwrap();
        let settings = tls::ServerSettings { identity: files.server, client_auth: tls::ClientAuth::None };
        let server = tls::Server::load(settings).unwrap();
        let config = quinn::ServerConfig::with_crypto(server.quic());
        let endpoint = quinn::Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = endpoint.local_addr().unwrap();
        FakeBroker { endpoint, address, ca: files.ca, _dir: dir }
    }

    /// Serves the next connection until it ends, or until it is to be closed.
    async fn serve(&self, brokers: Vec<metadata::MetadataResponseBroker>, close: &CancellationToken) {
        let connection = self.endpoint.accept().await.unwrap().await.unwrap();
        tokio::select! {
            () = close.cancelled() => connection.close(0_u32.into(), b"enough"),
            () = serve_connection(&connection, &brokers) => {}
        }
    }

    async fn proxy(&self, stop: &CancellationToken) -> SocketAddr {
        let settings = tls::ClientSettings { roots: tls::Roots::File(self.ca.clone()), identity: None };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let local = listener.local_addr().unwrap();
        let target = vec![client::Address { host: "localhost".to_owned(), port: self.address.port() }];
        let proxy = Proxy::new(Dialer::new(&settings).unwrap(), target, local, stop.clone());
        let upstream = proxy.upstream();
        tokio::spawn(proxy.accept(listener, upstream));
        local
    }
}

async fn serve_connection(connection: &quinn::Connection, brokers: &[metadata::MetadataResponseBroker]) {
    let mut streams = tokio::task::JoinSet::new();
    while let Ok((send, recv)) = connection.accept_bi().await {
        streams.spawn(serve_stream(send, recv, brokers.to_vec()));
    }
}

async fn serve_stream(
    mut send: quinn::SendStream,
    mut recv: quinn::RecvStream,
    brokers: Vec<metadata::MetadataResponseBroker>,
) {
    let mut length = [0; 4];
    while recv.read_exact(&mut length).await.is_ok() {
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        recv.read_exact(&mut frame).await.unwrap();
        let header = RequestHeader::decode(&mut frame.into()).unwrap();
        let version = header.api_version;
        let answer = if header.api_key == ApiKey::Metadata.code() {
            let body = metadata::Response { brokers: brokers.clone(), ..Default::default() };
            encode_response(ApiKey::Metadata, version, header.correlation_id, &body).unwrap()
        } else {
            let body = api_versions::Response::default();
            encode_response(ApiKey::ApiVersions, version, header.correlation_id, &body).unwrap()
        };
        send.write_all(&answer.into_bytes()).await.unwrap();
    }
    let _ = send.finish();
}

async fn ask(client: &mut TcpStream, request: &[u8]) -> Bytes {
    let asked = async {
        client.write_all(request).await?;
        let mut length = [0; 4];
        client.read_exact(&mut length).await?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        client.read_exact(&mut frame).await?;
        Ok::<_, std::io::Error>(Bytes::from(frame))
    };
    timeout(DEADLINE, asked).await.unwrap().unwrap()
}

async fn ask_for_brokers(client: &mut TcpStream) -> Vec<(String, u16)> {
    let mut frame = ask(client, &request(12, 77, &metadata::Request::default())).await;
    assert_eq!(decode_response_header(ApiKey::Metadata, 12, &mut frame).unwrap(), 77);
    let body = metadata::Response::decode(&mut frame, 12).unwrap();
    assert!(!frame.has_remaining());
    body.brokers.iter().map(|one| (one.host.to_string(), u16::try_from(one.port).unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_one_broker_stays_with_the_proxy_and_may_close_its_side_first() {
    let fake = FakeBroker::start();
    let stop = CancellationToken::new();
    let local = fake.proxy(&stop).await;
    let serving = async { fake.serve(vec![broker(1, "elsewhere.invalid", 9092)], &CancellationToken::new()).await };
    let client = async {
        let mut client = TcpStream::connect(local).await.unwrap();
        assert_eq!(ask_for_brokers(&mut client).await, [("127.0.0.1".to_owned(), local.port())]);
        // Requests that were sent before the client closed its side are still answered.
        client.write_all(&request(3, 5, &api_versions::Request::default())).await.unwrap();
        client.shutdown().await.unwrap();
        let mut rest = Vec::new();
        timeout(DEADLINE, client.read_to_end(&mut rest)).await.unwrap().unwrap();
        assert_eq!(rest[4..8], 5_i32.to_be_bytes());
        stop.cancel();
    };
    tokio::select! {
        () = serving => panic!("the broker ended"),
        () = client => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_brokers_get_a_local_port_each_and_keep_it() {
    let fake = FakeBroker::start();
    let stop = CancellationToken::new();
    let local = fake.proxy(&stop).await;
    let target = i32::from(fake.address.port());
    // The second one is the same fake broker by another name.
    let brokers = vec![broker(1, "localhost", target), broker(2, "127.0.0.1", target)];
    let never = CancellationToken::new();
    let first = async { fake.serve(brokers.clone(), &never).await };
    let second = async { fake.serve(brokers.clone(), &never).await };
    let client = async {
        let mut client = TcpStream::connect(local).await.unwrap();
        let named = ask_for_brokers(&mut client).await;
        assert_eq!(named[0], ("127.0.0.1".to_owned(), local.port()));
        assert_ne!(named[1].1, local.port());
        let mut other = TcpStream::connect(("127.0.0.1", named[1].1)).await.unwrap();
        assert_eq!(ask_for_brokers(&mut other).await, named);
        assert_eq!(ask_for_brokers(&mut client).await, named);
        stop.cancel();
    };
    tokio::select! {
        _ = async { tokio::join!(first, second) } => panic!("the brokers ended"),
        () = client => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_died_is_replaced_for_the_next_client() {
    let fake = FakeBroker::start();
    let stop = CancellationToken::new();
    let local = fake.proxy(&stop).await;
    let brokers = vec![broker(1, "elsewhere.invalid", 9092)];
    let close = CancellationToken::new();
    let serving = async {
        fake.serve(brokers.clone(), &close).await;
        fake.serve(brokers.clone(), &CancellationToken::new()).await;
    };
    let client = async {
        let mut client = TcpStream::connect(local).await.unwrap();
        ask_for_brokers(&mut client).await;
        close.cancel();
        let mut rest = Vec::new();
        // The end of the QUIC connection is the end of the client's.
        let _ = timeout(DEADLINE, client.read_to_end(&mut rest)).await.unwrap();
        let mut client = TcpStream::connect(local).await.unwrap();
        assert_eq!(ask_for_brokers(&mut client).await.len(), 1);
        stop.cancel();
    };
    tokio::select! {
        () = serving => panic!("the broker ended"),
        () = client => {}
    }
}
