//! The doors over real sockets: TCP, TLS and QUIC.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, Join},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;

use crate::{
    Address, Front, Limits, Listener, ListenerConfig, Metrics, Protocol, Transport,
    test_service::{Script, ask, closed, receive, receive_numbers, request, send, within},
};

struct SystemClock;

impl records::Clock for SystemClock {
    #[allow(clippy::disallowed_methods)]
    fn now(&self) -> records::Timestamp {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        records::Timestamp(i64::try_from(now.as_millis()).unwrap())
    }
}

/// A development CA with a server and the client `alice`.
struct Authority {
    _dir: tempfile::TempDir,
    files: tls::dev::Files,
    alice: tls::IdentityFiles,
}

impl Authority {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let names = tls::dev::LOCAL_NAMES.map(String::from);
        let files = tls::dev::ensure(dir.path(), &names, &SystemClock).unwrap();
        let alice = tls::dev::ensure_client(dir.path(), "alice", &SystemClock).unwrap();
        Self { _dir: dir, files, alice }
    }

    fn server(&self) -> Arc<tls::Server> {
        let client_auth = tls::ClientAuth::Optional { ca: self.files.ca.clone() };
        tls::Server::load(tls::ServerSettings { identity: self.files.server.clone(), client_auth }).unwrap()
    }

    fn client(&self, identity: bool) -> tls::ClientSettings {
        tls::ClientSettings {
            roots: tls::Roots::File(self.files.ca.clone()),
            identity: identity.then(|| self.alice.clone()),
        }
    }

    async fn connect(&self, address: SocketAddr, identity: bool) -> std::io::Result<TlsStream<TcpStream>> {
        let config = tls::client_config(&self.client(identity)).unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        within(TlsConnector::from(config).connect(ServerName::try_from("localhost").unwrap(), stream)).await
    }

    fn quic_endpoint(&self, identity: bool) -> quinn::Endpoint {
        let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        endpoint.set_default_client_config(tls::quic_client_config(&self.client(identity)).unwrap());
        endpoint
    }
}

/// A listener that runs.
struct Running {
    address: SocketAddr,
    transport: Transport,
    script: Arc<Script>,
    front: Arc<Front>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(protocol: Protocol, limits: Limits) -> Self {
        Self::start_with(config(protocol, "127.0.0.1:0"), limits)
    }

    fn start_with(config: ListenerConfig, limits: Limits) -> Self {
        let front = Front::new(limits, Metrics::default());
        let listener = Listener::bind(config, &front).unwrap();
        let (script, shutdown) = (Script::new(), CancellationToken::new());
        Self {
            address: listener.local_address(),
            transport: listener.info().transport,
            task: tokio::spawn(listener.run(Arc::clone(&script), shutdown.clone())),
            script,
            front,
            shutdown,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    fn metrics(&self) -> crate::metrics::ListenerMetrics {
        self.front.metrics.of_listener("test", self.transport)
    }

    /// Stops it; every connection is gone and everything is given back.
    async fn stop(self) {
        self.shutdown.cancel();
        within(self.task).await.unwrap();
        let metrics = self.front.metrics.of_listener("test", self.transport);
        assert_eq!((metrics.open.get(), metrics.streams_open.get(), metrics.in_flight.get()), (0, 0, 0));
    }
}

fn config(protocol: Protocol, address: &str) -> ListenerConfig {
    ListenerConfig {
        name: "test".into(),
        address: address.parse().unwrap(),
        protocol,
        advertised: None,
        quic_token_key: None,
    }
}

type QuicStream = Join<quinn::RecvStream, quinn::SendStream>;

async fn stream(connection: &quinn::Connection) -> QuicStream {
    let (writer, reader) = within(connection.open_bi()).await.unwrap();
    tokio::io::join(reader, writer)
}

async fn quic(endpoint: &quinn::Endpoint, address: SocketAddr) -> quinn::Connection {
    within(endpoint.connect(address, "localhost").unwrap()).await.unwrap()
}

async fn text<R: AsyncRead + Unpin>(reader: &mut R) -> String {
    String::from_utf8(receive(reader).await).unwrap()
}

#[tokio::test]
async fn a_listener_tells_where_it_is_and_what_it_advertises() {
    let front = Front::new(Limits::default(), Metrics::default());
    let advertised = |address: &str, advertised: Option<Address>| {
        let config = ListenerConfig { advertised, ..config(Protocol::Tcp, address) };
        let listener = Listener::bind(config, &front).unwrap();
        (listener.local_address().port(), listener.info().advertised.clone())
    };
    let (port, address) = advertised("127.0.0.1:0", None);
    assert!(port != 0);
    assert_eq!(address, Address { host: "127.0.0.1".into(), port });
    let (port, address) = advertised("0.0.0.0:0", None);
    assert_eq!(address, Address { host: "localhost".into(), port });
    let (port, address) = advertised("127.0.0.1:0", Some("broker.example:0".parse().unwrap()));
    assert_eq!(address, Address { host: "broker.example".into(), port });
    let (_, address) = advertised("127.0.0.1:0", Some("broker.example:443".parse().unwrap()));
    assert_eq!(address.to_string(), "broker.example:443");
}

#[tokio::test]
async fn a_taken_address_is_named_with_a_remedy() {
    let front = Front::new(Limits::default(), Metrics::default());
    let authority = Authority::new();
    for (protocol, kind) in [(Protocol::Tcp, "TCP"), (Protocol::Quic(authority.server()), "UDP")] {
        let first = Listener::bind(config(protocol.clone(), "127.0.0.1:0"), &front).unwrap();
        let address = first.local_address().to_string();
        let error = Listener::bind(config(protocol, &address), &front).unwrap_err().to_string();
        for part in ["`test`", &address, kind, "another program"] {
            assert!(error.contains(part), "{error}");
        }
    }
}

#[tokio::test]
async fn tcp_serves_and_shuts_down_gracefully() {
    let running = Running::start(Protocol::Tcp, Limits::default());
    let mut client = running.connect().await;
    assert_eq!(ask(&mut client, "who?", 0).await, b"User:ANONYMOUS");
    send(&mut client, "peer", 0).await;
    assert_eq!(text(&mut client).await, client.local_addr().unwrap().to_string());
    send(&mut client, "wait", 7).await;
    running.script.started(3).await;
    assert_eq!(running.metrics().open.get(), 1);

    running.shutdown.cancel();
    running.script.release(7);
    assert_eq!(receive_numbers(&mut client, 1).await, [7]);
    closed(&mut client).await;
    drop(client);
    let address = running.address;
    running.stop().await;
    TcpStream::connect(address).await.unwrap_err();
}

#[tokio::test]
async fn answers_are_not_lost_when_a_shutdown_leaves_requests_unread() {
    let limits = Limits { requests_in_flight_max: 1, ..Limits::default() };
    let running = Running::start(Protocol::Tcp, limits);
    let mut client = running.connect().await;
    // An answer that the sockets' buffers cannot hold, and behind it requests that nobody will read.
    send(&mut client, "size", 16 << 20).await;
    client.write_all(&request("echo", 2, &[0; 100_000])).await.unwrap();
    running.script.started(1).await;
    running.shutdown.cancel();
    assert_eq!(receive(&mut client).await.len(), 16 << 20);
    closed(&mut client).await;
    drop(client);
    running.stop().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_refused_until_one_ends() {
    let limits = Limits { connections_per_address_max: 2, ..Limits::default() };
    let running = Running::start(Protocol::Tcp, limits);
    let (mut a, mut b) = (running.connect().await, running.connect().await);
    ask(&mut a, "echo", 1).await;
    ask(&mut b, "echo", 1).await;
    closed(&mut running.connect().await).await;
    a.shutdown().await.unwrap();
    closed(&mut a).await;
    drop(a);
    within(async {
        loop {
            let mut again = running.connect().await;
            let served = again.write_all(&request("echo", 5, b"")).await.is_ok() && again.read_u32().await.is_ok();
            if served {
                break;
            }
        }
    })
    .await;
    drop(b);
    running.stop().await;
}

#[tokio::test]
async fn a_panicking_handler_harms_nobody_else() {
    let running = Running::start(Protocol::Tcp, Limits::default());
    let (mut a, mut b) = (running.connect().await, running.connect().await);
    ask(&mut b, "echo", 1).await;
    send(&mut a, "boom", 1).await;
    closed(&mut a).await;
    assert_eq!(ask(&mut b, "echo", 2).await, request("echo", 2, b"")[4..]);
    ask(&mut running.connect().await, "echo", 3).await;
    drop(b);
    running.stop().await;
}

#[tokio::test]
async fn tls_names_the_client_by_its_certificate() {
    let authority = Authority::new();
    let running = Running::start(Protocol::Tls(authority.server()), Limits::default());
    let mut anonymous = authority.connect(running.address, false).await.unwrap();
    assert_eq!(ask(&mut anonymous, "who?", 0).await, b"User:ANONYMOUS");
    let mut alice = authority.connect(running.address, true).await.unwrap();
    assert_eq!(ask(&mut alice, "who?", 0).await, b"User:CN=alice");
    assert_eq!(alice.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    drop((anonymous, alice));
    running.stop().await;
}

#[tokio::test]
async fn tls_1_2_is_served() {
    let authority = Authority::new();
    let running = Running::start(Protocol::Tls(authority.server()), Limits::default());
    let mut roots = rustls::RootCertStore::empty();
    for certificate in tls::Identity::load(&ca_identity(&authority)).unwrap().chain() {
        roots.add(certificate.clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS12]).unwrap();
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    let tcp = running.connect().await;
    let connector = TlsConnector::from(Arc::new(config));
    let mut client = connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap();
    assert_eq!(client.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_2));
    let large = request("echo", 1, &vec![3; 300_000]);
    client.write_all(&large).await.unwrap();
    assert!(receive(&mut client).await == large[4..]);
    drop(client);
    running.stop().await;
}

/// The CA's own pair: its certificate is its chain.
fn ca_identity(authority: &Authority) -> tls::IdentityFiles {
    let ca = authority.files.ca.clone();
    tls::IdentityFiles { key: ca.with_file_name("ca-key.pem"), certificate: ca }
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_handshake_is_dropped_and_holds_up_nobody_for_long() {
    let authority = Authority::new();
    let limits = Limits { handshakes_max: 1, handshake_timeout: Duration::from_millis(300), ..Limits::default() };
    let running = Running::start(Protocol::Tls(authority.server()), limits);
    let mut silent = running.connect().await;
    // One that speaks plain Kafka is told off by TLS at once.
    let mut plain = running.connect().await;
    plain.write_all(&request("echo", 1, b"")).await.unwrap();
    let mut alert = Vec::new();
    let _ = within(plain.read_to_end(&mut alert)).await;
    assert!(!alert.windows(4).any(|window| window == b"echo"));
    closed(&mut silent).await;
    let mut client = authority.connect(running.address, false).await.unwrap();
    ask(&mut client, "echo", 1).await;
    assert_eq!(running.metrics().accepted.get(), 1);
    drop(client);
    running.stop().await;
}

#[tokio::test]
async fn quic_serves_each_stream_as_a_connection() {
    let authority = Authority::new();
    let running = Running::start(Protocol::Quic(authority.server()), Limits::default());
    let endpoint = authority.quic_endpoint(true);
    let connection = quic(&endpoint, running.address).await;
    let (mut a, mut b) = (stream(&connection).await, stream(&connection).await);
    assert_eq!(ask(&mut a, "who?", 0).await, b"User:CN=alice");
    send(&mut a, "wait", 1).await;
    running.script.started(2).await;
    assert_eq!(ask(&mut b, "echo", 2).await, request("echo", 2, b"")[4..], "a waits, b goes on");
    assert_eq!((running.metrics().open.get(), running.metrics().streams_open.get()), (1, 2));
    running.script.release(1);
    assert_eq!(receive_numbers(&mut a, 1).await, [1]);
    // One-way streams and datagrams are not for Kafka.
    assert!(futures::FutureExt::now_or_never(connection.open_uni()).is_none());
    assert_eq!(connection.max_datagram_size(), None);

    let other = authority.quic_endpoint(false);
    let mut anonymous = stream(&quic(&other, running.address).await).await;
    assert_eq!(ask(&mut anonymous, "who?", 0).await, b"User:ANONYMOUS");
    drop((a, b, anonymous));
    connection.close(0_u8.into(), b"");
    running.stop().await;
}

#[tokio::test]
async fn a_stalled_stream_does_not_block_another() {
    let authority = Authority::new();
    let limits = Limits { shutdown_grace: Duration::from_millis(100), ..Limits::default() };
    let running = Running::start(Protocol::Quic(authority.server()), limits);
    let endpoint = authority.quic_endpoint(false);
    let connection = quic(&endpoint, running.address).await;
    let (mut stalled, mut lively) = (stream(&connection).await, stream(&connection).await);
    // More than the client's window for one stream, which it does not read.
    send(&mut stalled, "size", 4 << 20).await;
    running.script.started(1).await;
    for number in 0..50 {
        let large = request("echo", number, &[1; 20_000]);
        lively.write_all(&large).await.unwrap();
        assert!(receive(&mut lively).await == large[4..]);
    }
    assert_eq!(receive(&mut stalled).await.len(), 4 << 20, "and nothing of it was lost");
    drop((stalled, lively));
    connection.close(0_u8.into(), b"");
    running.stop().await;
}

#[tokio::test]
async fn authentication_on_one_stream_holds_for_the_connection() {
    let authority = Authority::new();
    let running = Running::start(Protocol::Quic(authority.server()), Limits::default());
    let endpoint = authority.quic_endpoint(false);
    let connection = quic(&endpoint, running.address).await;
    let (mut a, mut b) = (stream(&connection).await, stream(&connection).await);
    assert_eq!(ask(&mut b, "who?", 0).await, b"User:ANONYMOUS");
    a.write_all(&request("auth", 0, b"User:bob")).await.unwrap();
    receive(&mut a).await;
    assert_eq!(ask(&mut b, "who?", 0).await, b"User:bob");
    assert_eq!(ask(&mut stream(&connection).await, "who?", 0).await, b"User:bob");
    let stranger = quic(&endpoint, running.address).await;
    assert_eq!(ask(&mut stream(&stranger).await, "who?", 0).await, b"User:ANONYMOUS");
    endpoint.close(0_u8.into(), b"");
    running.stop().await;
}

#[tokio::test]
async fn a_client_whose_port_changes_mid_stream_loses_nothing() {
    const REQUESTS: u32 = 400;
    let authority = Authority::new();
    let running = Running::start(Protocol::Quic(authority.server()), Limits::default());
    let endpoint = authority.quic_endpoint(false);
    let connection = quic(&endpoint, running.address).await;
    let (writer, reader) = connection.open_bi().await.unwrap();
    let mut client = tokio::io::join(reader, writer);
    let before = {
        send(&mut client, "peer", 0).await;
        text(&mut client).await
    };
    send(&mut client, "wait", 0).await;
    running.script.started(2).await;

    let (mut reader, mut writer) = client.into_inner();
    let sending = tokio::spawn(async move {
        for number in 1..=REQUESTS {
            writer.write_all(&request("echo", number, &[9; 5000])).await.unwrap();
        }
        writer
    });
    // The move happens with requests and an answer under way, and again in the middle of the answers.
    endpoint.rebind(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    running.script.release(0);
    assert_eq!(receive_numbers(&mut reader, 200).await, (0..200).collect::<Vec<_>>());
    endpoint.rebind(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    assert_eq!(receive_numbers(&mut reader, 201).await, (200..=REQUESTS).collect::<Vec<_>>());

    let mut client = tokio::io::join(reader, sending.await.unwrap());
    send(&mut client, "peer", 0).await;
    let after = text(&mut client).await;
    assert_ne!(after, before);
    assert_eq!(after, endpoint.local_addr().unwrap().to_string(), "the broker knows where the client is now");
    within(async {
        while running.metrics().migrated.get() == 0 {
            ask(&mut client, "echo", 1).await;
        }
    })
    .await;
    assert_eq!(running.metrics().accepted.get(), 1, "it is still the same connection");
    drop(client);
    connection.close(0_u8.into(), b"");
    running.stop().await;
}

#[tokio::test]
async fn quic_shuts_down_gracefully() {
    let authority = Authority::new();
    let running = Running::start(Protocol::Quic(authority.server()), Limits::default());
    let endpoint = authority.quic_endpoint(false);
    let connection = quic(&endpoint, running.address).await;
    let mut client = stream(&connection).await;
    send(&mut client, "wait", 7).await;
    send(&mut client, "size", 900_000).await;
    running.script.started(2).await;
    running.shutdown.cancel();
    running.script.release(7);
    assert_eq!(receive_numbers(&mut client, 1).await, [7]);
    assert_eq!(receive(&mut client).await.len(), 900_000);
    closed(&mut client).await;
    running.stop().await;
    within(connection.closed()).await;
}

#[tokio::test]
async fn a_quic_client_that_moves_to_a_dead_address_frees_what_it_held() {
    let authority = Authority::new();
    let limits = Limits { quic_idle_timeout: Duration::from_millis(300), ..Limits::default() };
    let running = Running::start(Protocol::Quic(authority.server()), limits);
    let endpoint = authority.quic_endpoint(false);
    let connection = quic(&endpoint, running.address).await;
    let mut client = stream(&connection).await;
    send(&mut client, "wait", 1).await;
    running.script.started(1).await;
    // Nothing of it answers any more: no close, no acknowledgement.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    silent.connect("127.0.0.1:9").unwrap();
    endpoint.rebind(silent).unwrap();
    running.script.dropped(1).await;
    running.stop().await;
}

#[tokio::test]
async fn quic_takes_no_more_streams_than_allowed_and_another_protocol_not_at_all() {
    let authority = Authority::new();
    let limits = Limits { quic_streams_max: 2, ..Limits::default() };
    let running = Running::start(Protocol::Quic(authority.server()), limits);
    let endpoint = authority.quic_endpoint(false);
    let connection = quic(&endpoint, running.address).await;
    let (mut a, mut b) = (stream(&connection).await, stream(&connection).await);
    ask(&mut a, "echo", 1).await;
    ask(&mut b, "echo", 1).await;
    assert!(futures::FutureExt::now_or_never(connection.open_bi()).is_none());
    a.shutdown().await.unwrap();
    closed(&mut a).await;
    let mut c = stream(&connection).await;
    ask(&mut c, "echo", 1).await;

    let mut config = (*tls::client_config(&authority.client(false)).unwrap()).clone();
    config.alpn_protocols = vec![b"h3".to_vec()];
    let config = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(config));
    let refused = within(endpoint.connect_with(config, running.address, "localhost").unwrap()).await.unwrap_err();
    assert!(refused.to_string().contains("any known protocol"), "{refused}");
    endpoint.close(0_u8.into(), b"");
    running.stop().await;
}

/// What a new client sends first.
async fn first_datagram(authority: &Authority) -> Vec<u8> {
    let server = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let endpoint = authority.quic_endpoint(false);
    let _connecting = endpoint.connect(server.local_addr().unwrap(), "localhost").unwrap();
    let mut datagram = vec![0; 2048];
    let length = within(server.recv(&mut datagram)).await.unwrap();
    datagram.truncate(length);
    datagram
}

#[tokio::test]
async fn a_client_that_never_shows_its_address_gets_little_for_what_it_sends() {
    let authority = Authority::new();
    let limits =
        Limits { handshake_timeout: Duration::from_secs(3), unvalidated_handshakes_max: 2, ..Limits::default() };
    let running = Running::start(Protocol::Quic(authority.server()), limits);
    let mut sockets = Vec::new();
    for _ in 0..6 {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let datagram = first_datagram(&authority).await;
        socket.send_to(&datagram, running.address).unwrap();
        sockets.push((socket, datagram.len()));
    }
    // Until the broker has given up on them: whatever it sends again counts too.
    within(async {
        while running.front.handshakes.unvalidated_now() == 0 || running.metrics().retries.get() < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        while running.front.handshakes.unvalidated_now() > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let mut retries = 0;
    for (socket, sent) in sockets {
        let (mut got, mut asked, mut buffer) = (0, false, vec![0; 4096]);
        while let Ok(length) = socket.recv(&mut buffer) {
            got += length;
            // A long header of type 3 (RFC 9000, 17.2.5).
            asked |= buffer[0] & 0xf0 == 0xf0;
        }
        retries += u64::from(asked);
        // RFC 9000, 8.1.
        let most = if asked { sent } else { 3 * sent };
        assert!(got > 0 && got <= most, "{got} bytes for {sent}");
    }
    assert_eq!((retries, running.metrics().retries.get()), (4, 4), "beyond the threshold they are asked first");
    // Who shows it is served.
    let connection = quic(&authority.quic_endpoint(false), running.address).await;
    assert_eq!(ask(&mut stream(&connection).await, "echo", 1).await[4..8], 1_u32.to_be_bytes());
    drop(connection);
    running.stop().await;
}

#[tokio::test]
async fn what_quic_clients_may_send_unread_is_bounded_for_all_together() {
    const FIRST: usize = crate::windows::FIRST_BYTES as usize;
    let authority = Authority::new();
    let limits = Limits { quic_windows_bytes_max: 20 * FIRST, quic_streams_max: 4, ..Limits::default() };
    let running = Running::start(Protocol::Quic(authority.server()), limits);
    let endpoint = authority.quic_endpoint(false);
    let connection = quic(&endpoint, running.address).await;
    let mut idle = Vec::new();
    for _ in 1..20 {
        idle.push(quic(&endpoint, running.address).await);
    }
    let refused = within(endpoint.connect(running.address, "localhost").unwrap()).await;
    assert!(refused.is_err(), "there is a window for one more");
    assert_eq!(running.metrics().refused_now("quic_windows_bytes"), 1);
    // One that is used grows when others have left.
    idle.truncate(4);
    let mut client = stream(&connection).await;
    within(async {
        while running.front.windows.used() > 5 * FIRST as u64 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut number = 0;
        while running.front.windows.used() <= 5 * FIRST as u64 {
            let large = request("echo", number, &[1; 20_000]);
            client.write_all(&large).await.unwrap();
            assert!(receive(&mut client).await == large[4..]);
            number += 1;
        }
    })
    .await;
    assert_eq!(running.front.windows.used(), 8 * FIRST as u64, "four times as much for one of five");
    drop((client, idle));
    connection.close(0_u32.into(), b"");
    within(endpoint.wait_idle()).await;
    let front = Arc::clone(&running.front);
    running.stop().await;
    assert_eq!(front.windows.used(), 0);
}

#[tokio::test]
async fn a_token_of_one_broker_is_good_at_another_that_shares_the_key() {
    let authority = Authority::new();
    let start = |secret: &[u8]| {
        let quic_token_key = Some(crate::QuicTokenKey::from_secret(secret));
        let config = ListenerConfig { quic_token_key, ..config(Protocol::Quic(authority.server()), "127.0.0.1:0") };
        Running::start_with(config, Limits { unvalidated_handshakes_max: 0, ..Limits::default() })
    };
    let (first, second) = (start(&[7; 32]), start(&[7; 32]));
    // One address before both: what asks for the token comes from the first, all else goes to the second.
    let (near, far) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let address = near.local_addr().unwrap();
    let (first_at, second_at) = (first.address, second.address);
    for socket in [&near, &far] {
        socket.set_nonblocking(true).unwrap();
    }
    let (near, far) = (tokio::net::UdpSocket::from_std(near).unwrap(), tokio::net::UdpSocket::from_std(far).unwrap());
    let relay = tokio::spawn(async move {
        let (mut client, mut server) = (None, first_at);
        let (mut up, mut down) = (vec![0; 4096], vec![0; 4096]);
        loop {
            tokio::select! {
                Ok((length, from)) = near.recv_from(&mut up) => {
                    client = Some(from);
                    far.send_to(&up[..length], server).await.unwrap();
                }
                Ok((length, _)) = far.recv_from(&mut down) => {
                    if down[0] & 0xf0 == 0xf0 {
                        server = second_at;
                    }
                    near.send_to(&down[..length], client.unwrap()).await.unwrap();
                }
            }
        }
    });
    let endpoint = authority.quic_endpoint(false);
    let connection = quic(&endpoint, address).await;
    assert_eq!(ask(&mut stream(&connection).await, "echo", 1).await[4..8], 1_u32.to_be_bytes());
    assert_eq!((first.metrics().retries.get(), second.metrics().retries.get()), (1, 0));
    assert_eq!((first.script.started_now(), second.script.started_now()), (0, 1));
    connection.close(0_u32.into(), b"");
    within(endpoint.wait_idle()).await;
    relay.abort();
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn what_is_counted_is_shown() {
    let running = Running::start(Protocol::Tcp, Limits::default());
    let mut client = running.connect().await;
    ask(&mut client, "echo", 1).await;
    let mut registry = prometheus_client::registry::Registry::default();
    running.front.metrics.register(&mut registry);
    let mut shown = String::new();
    prometheus_client::encoding::text::encode(&mut shown, &registry).unwrap();
    for line in [
        r#"weir_connections_open{listener="test",transport="tcp"} 1"#,
        r#"weir_connections_accepted_total{listener="test",transport="tcp"} 1"#,
        r#"weir_received_bytes_total{listener="test",transport="tcp"} 12"#,
        r#"weir_requests_in_flight{listener="test",transport="tcp"} 0"#,
    ] {
        assert!(shown.contains(line), "{line} is missing in:\n{shown}");
    }
    drop(client);
    running.stop().await;
}
