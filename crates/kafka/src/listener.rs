//! Doors: a bound TCP or UDP socket, the accepting of connections, and their handshakes. Each connection is a task that
//! its listener owns; a listener that stops lets them finish their answers, then ends them.

use std::{
    fmt, io,
    net::{Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use socket2::{Domain, Protocol as SocketProtocol, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use crate::{
    Address, Context, Front, ListenerInfo, Peer, QuicTokenKey, Service, Session, Transport,
    connection::Connection,
    limits::Place,
    metrics::{Counted, ListenerMetrics},
    quic,
    threads::Turn,
};

/// Connections that the system keeps for us while we are busy.
const BACKLOG: i32 = 1024;
/// After an error of accepting (no file descriptors, say), so that it is not repeated without a pause.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long the last bytes may take to the client, once everything is written.
const LINGER: Duration = Duration::from_secs(1);

/// What a listener speaks below Kafka.
#[derive(Debug, Clone)]
pub enum Protocol {
    /// Plain TCP.
    Tcp,
    /// TLS over TCP.
    Tls(Arc<tls::Server>),
    /// QUIC.
    Quic(Arc<tls::Server>),
}

impl Protocol {
    fn transport(&self) -> Transport {
        match self {
            Self::Tcp => Transport::Tcp,
            Self::Tls(_) => Transport::Tls,
            Self::Quic(_) => Transport::Quic,
        }
    }
}

/// A listener to be.
#[derive(Debug, Clone)]
pub struct ListenerConfig {
    /// Its name: in logs, metrics, and where APIs ask for one.
    pub name: String,
    /// Where it listens. Port 0 takes any free one; `[::]` takes IPv4 as well.
    pub address: SocketAddr,
    /// What it speaks below Kafka.
    pub protocol: Protocol,
    /// What clients are told; port 0 stands for the port it got. Without it: where it listens, or `localhost` where that
    /// is every address of the machine.
    pub advertised: Option<Address>,
    /// For QUIC: the key of address tokens that the brokers of a cluster share; one of its own without it.
    pub quic_token_key: Option<QuicTokenKey>,
}

/// Why a listener cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("listener `{name}` cannot listen on {address} ({protocol}): {source}; {remedy}")]
pub struct BindError {
    /// The listener.
    pub name: String,
    /// The address.
    pub address: SocketAddr,
    /// `TCP` or `UDP`.
    pub protocol: &'static str,
    /// What the system said.
    pub source: io::Error,
    remedy: &'static str,
}

/// A bound socket: its address is known, nothing is accepted yet.
pub struct Listener {
    door: Door,
    front: Arc<Front>,
    local: SocketAddr,
    socket: Bound,
}

enum Bound {
    Tcp(TcpListener),
    Tls(TcpListener, Arc<tls::Server>),
    Quic(Box<quic::Endpoint>),
}

/// What the connections of a listener have in common.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    pub(crate) info: Arc<ListenerInfo>,
    pub(crate) metrics: ListenerMetrics,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("info", &self.door.info).field("local", &self.local).finish_non_exhaustive()
    }
}

impl Listener {
    /// Binds the socket. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// The address is taken, not this machine's, or not allowed; the error says which and what to do.
    pub fn bind(config: ListenerConfig, front: &Arc<Front>) -> Result<Self, BindError> {
        let transport = config.protocol.transport();
        let protocol = if transport == Transport::Quic { "UDP" } else { "TCP" };
        let bound = match config.protocol {
            Protocol::Tcp => bind_tcp(config.address).map(Bound::Tcp),
            Protocol::Tls(tls) => bind_tcp(config.address).map(|socket| Bound::Tls(socket, tls)),
            Protocol::Quic(tls) => {
                let endpoint = quic::Endpoint::bind(config.address, tls, config.quic_token_key, &front.limits);
                endpoint.map(|endpoint| Bound::Quic(Box::new(endpoint)))
            }
        };
        let bound = bound.and_then(|socket| Ok((socket.local_address()?, socket)));
        let (local, socket) = bound.map_err(|source| BindError {
            name: config.name.clone(),
            address: config.address,
            protocol,
            remedy: remedy(&source),
            source,
        })?;
        let info =
            Arc::new(ListenerInfo { advertised: advertise(config.advertised, local), name: config.name, transport });
        let door = Door { metrics: front.metrics.of_listener(&info.name, transport), info };
        Ok(Self { door, front: Arc::clone(front), local, socket })
    }

    /// Where it really listens.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// Its name, transport and advertised address.
    #[must_use]
    pub fn info(&self) -> &Arc<ListenerInfo> {
        &self.door.info
    }

    /// Accepts and serves connections until `shutdown`, then lets them finish and returns. Dropping this future ends all
    /// of them at once.
    pub async fn run<S: Service>(self, service: Arc<S>, shutdown: CancellationToken) {
        let Self { door, front, local, socket } = self;
        tracing::info!(listener = door.info.name, transport = %door.info.transport, address = %local,
            advertised = %door.info.advertised, "listening");
        let connections = Connections { door, front, service, shutdown };
        match socket {
            Bound::Tcp(socket) => accept(socket, None, connections).await,
            Bound::Tls(socket, tls) => accept(socket, Some(tls), connections).await,
            Bound::Quic(endpoint) => endpoint.run(connections).await,
        }
    }
}

impl Bound {
    fn local_address(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(socket) | Self::Tls(socket, _) => socket.local_addr(),
            Self::Quic(endpoint) => endpoint.local_address(),
        }
    }
}

/// A socket on an address; one on `[::]` takes IPv4 too.
pub(crate) fn socket_on(address: SocketAddr, kind: Type, protocol: SocketProtocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(address.ip() != Ipv6Addr::UNSPECIFIED)?;
    }
    if kind == Type::STREAM {
        // A listener that comes back finds old connections in TIME_WAIT. It does not share a port that is in use.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket_on(address, Type::STREAM, SocketProtocol::TCP)?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program, perhaps another broker, has this port: stop it or choose another port"
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address: use one of its own, or 0.0.0.0 for all",
        io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege: choose a higher port",
        _ => "choose another address",
    }
}

/// What clients are told.
fn advertise(configured: Option<Address>, local: SocketAddr) -> Address {
    let port = |port: u16| if port == 0 { local.port() } else { port };
    match configured {
        Some(Address { host, port: given }) => Address { host, port: port(given) },
        None if local.ip().is_unspecified() => Address { host: "localhost".into(), port: local.port() },
        None => Address { host: local.ip().to_string(), port: local.port() },
    }
}

/// What every connection of a listener is served with.
pub(crate) struct Connections<S> {
    pub(crate) door: Door,
    pub(crate) front: Arc<Front>,
    pub(crate) service: Arc<S>,
    pub(crate) shutdown: CancellationToken,
}

impl<S> Clone for Connections<S> {
    fn clone(&self) -> Self {
        Self {
            door: self.door.clone(),
            front: Arc::clone(&self.front),
            service: Arc::clone(&self.service),
            shutdown: self.shutdown.clone(),
        }
    }
}

impl<S: Service> Connections<S> {
    /// A Kafka connection of this listener.
    pub(crate) fn connection(&self, peer: Peer, session: Arc<Session>) -> Connection {
        let info = Arc::clone(&self.door.info);
        let limits = Arc::clone(&self.front.limits);
        let answers = Arc::clone(&self.front.answers);
        let context = Context::new(self.front.next_id(), info, peer, session, limits, answers);
        Connection::new(context, Arc::clone(&self.front), self.door.metrics.clone(), self.shutdown.clone())
    }

    /// Waits for tasks that have been told to stop; what is left after the grace is ended.
    pub(crate) async fn finish(&self, mut tasks: JoinSet<()>) {
        let patience = self.front.limits.shutdown_grace + self.front.limits.end_grace + LINGER;
        let all = async { while tasks.join_next().await.is_some() {} };
        if timeout(patience, all).await.is_err() {
            tracing::warn!(
                listener = self.door.info.name,
                left = tasks.len(),
                "connections ended before their answers"
            );
            tasks.shutdown().await;
        }
    }
}

async fn accept<S: Service>(socket: TcpListener, tls: Option<Arc<tls::Server>>, connections: Connections<S>) {
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = connections.shutdown.cancelled() => break,
            Some(_) = tasks.join_next() => continue,
            accepted = socket.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                connections.door.metrics.refused("accept_error");
                if let Some(left_out) = connections.front.refusals.pass() {
                    tracing::warn!(listener = connections.door.info.name, %error, left_out, "accepting a connection failed");
                }
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match connections.front.admission.connection(peer.ip()) {
            Ok(place) => {
                let Ok(stream) = stream.into_std() else { continue };
                let (thread, turn) = connections.front.threads.next();
                let places = (place, turn);
                tasks.spawn_on(connections.clone().serve_tcp(stream, peer, tls.clone(), places), &thread);
            }
            Err(refusal) => {
                connections.front.refused(refusal, &connections.door.info.name, peer.ip(), &connections.door.metrics);
            }
        }
    }
    drop(socket);
    connections.finish(tasks).await;
}

impl<S: Service> Connections<S> {
    async fn serve_tcp(
        self,
        stream: std::net::TcpStream,
        peer: SocketAddr,
        tls: Option<Arc<tls::Server>>,
        _places: (Place, Turn),
    ) {
        // From now on this thread is told of what comes. Answers are written whole; waiting to fill a packet would only
        // delay them.
        let Ok(stream) = TcpStream::from_std(stream).and_then(|stream| stream.set_nodelay(true).map(|()| stream))
        else {
            return;
        };
        let _open = Counted::new(&self.door.metrics.open);
        let peer_address = peer;
        let peer = Peer::Fixed(peer);
        let Some(tls) = tls else {
            self.door.metrics.accepted.inc();
            let (reader, writer) = stream.into_split();
            return self.serve_halves(reader, writer, peer, Arc::default()).await;
        };
        let handshake = async {
            let under_way = self.front.handshakes.begin(peer_address.ip()).await;
            let stream = TlsAcceptor::from(tls.tcp()).accept(stream).await;
            drop(under_way);
            stream
        };
        let handshake = tokio::select! {
            () = self.shutdown.cancelled() => return,
            handshake = timeout(self.front.limits.handshake_timeout, handshake) => handshake,
        };
        let problem = match handshake {
            Ok(Ok(stream)) => match session_of(&stream) {
                Ok(session) => {
                    self.door.metrics.accepted.inc();
                    let (reader, writer) = tokio::io::split(stream);
                    return self.serve_halves(reader, writer, peer, session).await;
                }
                Err(error) => error.to_string(),
            },
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it took too long".into(),
        };
        self.handshake_failed(peer_address, &problem);
    }

    pub(crate) fn handshake_failed(&self, peer: SocketAddr, problem: &str) {
        self.door.metrics.refused("handshake");
        if let Some(left_out) = self.front.refusals.pass() {
            tracing::info!(listener = self.door.info.name, %peer, problem, left_out, "handshake failed");
        }
    }

    async fn serve_halves<R, W>(&self, mut reader: R, mut writer: W, peer: Peer, session: Arc<Session>)
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let connection = self.connection(peer, session);
        let served = connection.serve(&self.service, &mut reader, &mut writer);
        let end = self.front.watch(&connection.context, &self.door.metrics, served).await;
        if end.is_some_and(|end| end.is_orderly()) {
            // A socket that is closed with unread requests in it resets the connection, and the reset can overtake the
            // last answers. So what still comes is read and thrown away, for a while.
            let mut waste = vec![0; 4 << 10];
            let drain = async { while reader.read(&mut waste).await.is_ok_and(|count| count > 0) {} };
            let _ = timeout(LINGER, drain).await;
        }
    }
}

/// Who the client's certificate says it is.
fn session_of(stream: &TlsStream<TcpStream>) -> Result<Arc<Session>, tls::Error> {
    match stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()) {
        Some(certificate) => Ok(Session::authenticated(&tls::principal_of(certificate)?)),
        None => Ok(Arc::default()),
    }
}
