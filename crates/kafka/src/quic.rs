//! The QUIC door: each bidirectional stream of a connection is one Kafka connection, served by the same code as TCP's.
//!
//! One endpoint on one socket serves a listener, so that the packets of a client whose address changed still find their
//! connection. 0-RTT, datagrams and one-way streams are off; windows are bounded, each and all together.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use quinn::{EndpointConfig, Incoming, Runtime as _, ServerConfig, TokioRuntime, TransportConfig, VarInt};
use rustls::pki_types::CertificateDer;
use socket2::{Protocol as SocketProtocol, Type};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use crate::{
    Limits, Peer, Service, Session,
    amplification::{Balances, Bounded, Unshown},
    limits::{Handshake, Place, Refusal},
    listener::{Connections, socket_on},
    metrics::Counted,
    windows::{self, Window},
};

/// Asked of the system, which may give less: enough for a burst while another task has the CPU.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// Connection attempts that wait to be looked at; more are refused by the QUIC library.
const INCOMING_MAX: usize = 1024;
/// What such an attempt may send ahead.
const INCOMING_BYTES: u64 = 16 << 10;
/// How often a connection is looked at: for a new address, for idleness, for a window that is too small.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long the end of the last streams may take to reach the client.
const LINGER: Duration = Duration::from_secs(1);

const CLOSED: VarInt = VarInt::from_u32(0);
/// The client did something that ends the stream or the connection.
const REFUSED: VarInt = VarInt::from_u32(1);

/// The key of the tokens by which QUIC clients show that they receive at their address (RFC 9000, 8.1). Brokers that share
/// it accept each other's tokens, so that a client may be asked by one and come back to another.
#[derive(Clone)]
pub struct QuicTokenKey(Arc<ring::hkdf::Prk>);

impl QuicTokenKey {
    /// The key that follows from a secret (HKDF-SHA256). The secret is as good as its length.
    #[must_use]
    pub fn from_secret(secret: &[u8]) -> Self {
        let salt = ring::hkdf::Salt::new(ring::hkdf::HKDF_SHA256, b"weir quic address tokens");
        Self(Arc::new(salt.extract(secret)))
    }
}

impl fmt::Debug for QuicTokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QuicTokenKey")
    }
}

/// A bound UDP socket with its QUIC machinery.
pub(crate) struct Endpoint {
    endpoint: quinn::Endpoint,
    config: ServerConfig,
    tls: Arc<tls::Server>,
    /// Of the addresses that have not shown that they receive.
    balances: Arc<Balances>,
}

impl Endpoint {
    /// Without a token key it draws one, which no other broker knows.
    pub(crate) fn bind(
        address: SocketAddr,
        tls: Arc<tls::Server>,
        token_key: Option<QuicTokenKey>,
        limits: &Limits,
    ) -> io::Result<Self> {
        let socket = socket_on(address, Type::DGRAM, SocketProtocol::UDP)?;
        // Best effort: the system's own bounds are the administrator's to set.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
        let mut config = ServerConfig::with_crypto(tls.quic());
        config
            .transport_config(Arc::new(transport(limits)))
            .migration(true)
            .max_incoming(INCOMING_MAX)
            .incoming_buffer_size(INCOMING_BYTES)
            .incoming_buffer_size_total(INCOMING_BYTES * INCOMING_MAX as u64);
        if let Some(QuicTokenKey(key)) = token_key {
            config.token_key(key);
        }
        let runtime = Arc::new(TokioRuntime);
        let balances = Arc::new(Balances::default());
        let socket = Arc::new(Bounded::new(runtime.wrap_udp_socket(socket.into())?, Arc::clone(&balances)));
        let (endpoint_config, server) = (EndpointConfig::default(), Some(config.clone()));
        let endpoint = quinn::Endpoint::new_with_abstract_socket(endpoint_config, server, socket, runtime)?;
        Ok(Self { endpoint, config, tls, balances })
    }

    pub(crate) fn local_address(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Accepts and serves connections until the shutdown.
    pub(crate) async fn run<S: Service>(self, connections: Connections<S>) {
        let mut tasks = JoinSet::new();
        loop {
            let (incoming, permit) = tokio::select! {
                () = connections.shutdown.cancelled() => break,
                Some(_) = tasks.join_next() => continue,
                // While all handshakes are taken, attempts wait, and beyond `INCOMING_MAX` are refused.
                next = async {
                    let permit = connections.front.handshakes.any().await;
                    (self.endpoint.accept().await, permit)
                } => match next {
                    (Some(incoming), permit) => (incoming, permit),
                    (None, _) => break,
                },
            };
            let handshakes = &connections.front.handshakes;
            let unvalidated = if incoming.remote_address_validated() { None } else { handshakes.unvalidated() };
            if unvalidated.is_none() && !incoming.remote_address_validated() {
                // The sender must show that it receives at its address before it costs us anything. Where it cannot be
                // asked (it showed a token that is not ours), it must begin anew.
                match incoming.may_retry() {
                    true => drop(incoming.retry()),
                    false => incoming.refuse(),
                }
                connections.door.metrics.retries.inc();
                continue;
            }
            let peer = incoming.remote_address();
            let admitted = connections.front.admission.connection(peer.ip());
            let unshown = unvalidated.as_ref().map(|_| self.balances.begin(peer));
            let admitted = admitted.and_then(|place| {
                let window = connections.front.windows.begin().ok_or(Refusal::NoWindow)?;
                Ok((place, window, handshakes.begin_with(permit, peer.ip(), unvalidated)?))
            });
            match admitted {
                Ok((place, window, under_way)) => {
                    let mut config = self.config.clone();
                    config.crypto = self.tls.quic();
                    tasks.spawn(connections.clone().serve_quic(
                        incoming,
                        Arc::new(config),
                        Opening { under_way, unshown },
                        place,
                        window,
                    ));
                }
                Err(refusal) => {
                    let door = &connections.door;
                    connections.front.refused(refusal, &door.info.name, peer.ip(), &door.metrics);
                    incoming.refuse();
                }
            }
        }
        self.endpoint.set_server_config(None);
        connections.finish(tasks).await;
        self.endpoint.close(CLOSED, b"the broker stops");
        let _ = timeout(LINGER, self.endpoint.wait_idle()).await;
    }
}

fn transport(limits: &Limits) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(limits.quic_streams_max.into())
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(limits.quic_stream_window_bytes.into())
        .receive_window(windows::FIRST_BYTES.into())
        .send_window(limits.quic_connection_window_bytes.into())
        .keep_alive_interval(Some(limits.quic_keep_alive))
        .max_idle_timeout(limits.quic_idle_timeout.try_into().ok());
    transport
}

/// A handshake under way, and what goes to its address as long as that is not shown.
struct Opening {
    under_way: Handshake,
    unshown: Option<Unshown>,
}

impl<S: Service> Connections<S> {
    async fn serve_quic(
        self,
        incoming: Incoming,
        config: Arc<ServerConfig>,
        opening: Opening,
        mut place: Place,
        mut window: Window,
    ) {
        let peer = incoming.remote_address();
        let Opening { under_way, unshown } = opening;
        let handshake = async { incoming.accept_with(config)?.await };
        let handshake = tokio::select! {
            () = self.shutdown.cancelled() => return,
            handshake = timeout(self.front.limits.handshake_timeout, handshake) => handshake,
        };
        drop(under_way);
        let failed = match handshake {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("it took too long".to_owned()),
        };
        let connection = match failed {
            Ok(connection) => connection,
            Err(why) => {
                self.handshake_failed(peer, &why);
                // What says so to the client counts too.
                if unshown.is_some() {
                    tokio::time::sleep(LINGER).await;
                }
                return;
            }
        };
        drop(unshown);
        let session = match session_of(&connection) {
            Ok(session) => session,
            Err(error) => {
                connection.close(REFUSED, b"the certificate cannot be read");
                return self.handshake_failed(peer, &error.to_string());
            }
        };
        self.door.metrics.accepted.inc();
        let _open = Counted::new(&self.door.metrics.open);
        self.serve_streams(&connection, &session, &mut place, &mut window).await;
        connection.close(CLOSED, b"");
    }

    /// Serves each stream that the client opens, until the connection or the broker ends.
    async fn serve_streams(
        &self,
        connection: &quinn::Connection,
        session: &Arc<Session>,
        place: &mut Place,
        window: &mut Window,
    ) {
        let mut streams = JoinSet::new();
        let mut address = connection.remote_address();
        let mut last_used = Instant::now();
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => break,
                Some(_) = streams.join_next() => last_used = Instant::now(),
                stream = connection.accept_bi() => {
                    let Ok((writer, reader)) = stream else { break };
                    match self.front.admission.stream() {
                        Ok(place) => {
                            let peer = Peer::Migrating(connection.clone());
                            let stream = self.clone().serve_stream(writer, reader, peer, Arc::clone(session), place);
                            streams.spawn(stream);
                        }
                        // Dropping the two ends would finish the stream as if it had been served.
                        Err(refusal) => {
                            let (mut writer, mut reader) = (writer, reader);
                            let _ = (writer.reset(REFUSED), reader.stop(REFUSED));
                            self.front.refused(refusal, &self.door.info.name, address.ip(), &self.door.metrics);
                        }
                    }
                }
                _ = look.tick() => {
                    if let Some(larger) = window.look(connection.stats().udp_rx.bytes) {
                        connection.set_receive_window(larger.into());
                    }
                    let now_at = connection.remote_address();
                    if now_at != address {
                        if !self.moved(address, now_at, place) {
                            connection.close(REFUSED, b"too many connections from this address");
                            break;
                        }
                        address = now_at;
                    }
                    if streams.is_empty() && last_used.elapsed() >= self.front.limits.idle_timeout {
                        break;
                    }
                }
            }
        }
        while streams.join_next().await.is_some() {}
    }

    /// The client's address changed; false when the new one has all the connections it may have.
    fn moved(&self, from: SocketAddr, to: SocketAddr, place: &mut Place) -> bool {
        self.door.metrics.migrated.inc();
        tracing::info!(listener = self.door.info.name, %from, %to, "a QUIC client changed its address");
        let Err(refusal) = place.moved_to(to.ip()) else { return true };
        self.front.refused(refusal, &self.door.info.name, to.ip(), &self.door.metrics);
        false
    }

    async fn serve_stream(
        self,
        mut writer: quinn::SendStream,
        reader: quinn::RecvStream,
        peer: Peer,
        session: Arc<Session>,
        _place: Place,
    ) {
        let _open = Counted::new(&self.door.metrics.streams_open);
        let connection = self.connection(peer, session);
        let served = connection.serve(&self.service, reader, &mut writer);
        let end = self.front.watch(&connection.context, &self.door.metrics, served).await;
        if end.is_some_and(|end| end.is_orderly()) {
            // The stream is finished; the connection may be closed once the client has all of it.
            let _ = timeout(LINGER, writer.stopped()).await;
        } else {
            let _ = writer.reset(REFUSED);
        }
    }
}

/// Who the client's certificate says it is.
fn session_of(connection: &quinn::Connection) -> Result<Arc<Session>, tls::Error> {
    let chain =
        connection.peer_identity().and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
    match chain.as_ref().and_then(|chain| chain.first()) {
        Some(certificate) => Ok(Session::authenticated(&tls::principal_of(certificate)?)),
        None => Ok(Arc::default()),
    }
}
