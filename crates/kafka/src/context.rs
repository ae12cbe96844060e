//! Who is at the other end of a connection, and through which door they came. Everything a request handler may want to
//! know about the connection is here; nothing of the request itself is.

use std::{
    fmt,
    net::SocketAddr,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use crate::{Answers, Limits, Transport};

/// An address that clients are told: a name, not yet resolved, and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// A host name or an IP address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// `host:port` could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address: write HOST:PORT, an IPv6 address in brackets, for instance localhost:9092 or [::1]:9092")]
pub struct AddressError(String);

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bare {
            Some(v6) if v6.parse::<std::net::Ipv6Addr>().is_ok() => v6,
            None if !host.is_empty() && !host.contains([':', '[', ']']) => host,
            _ => return Err(wrong()),
        };
        Ok(Self { host: host.to_owned(), port: port.parse().map_err(|_| wrong())? })
    }
}

/// The door through which a connection came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerInfo {
    /// The listener's name.
    pub name: String,
    /// How its connections travel.
    pub transport: Transport,
    /// The address that clients of this listener are given for this broker.
    pub advertised: Address,
}

/// Who the client is: one for a TCP connection, one for all streams of a QUIC connection, so that authentication made on
/// one stream holds for the others.
#[derive(Debug)]
pub struct Session {
    principal: RwLock<Arc<str>>,
    authenticated: AtomicBool,
}

impl Default for Session {
    fn default() -> Self {
        Self { principal: RwLock::new(tls::ANONYMOUS.into()), authenticated: AtomicBool::new(false) }
    }
}

impl Session {
    /// A session whose client has shown who it is (by a certificate, say).
    #[must_use]
    pub fn authenticated(principal: &str) -> Arc<Self> {
        let session = Self::default();
        session.authenticate(principal);
        Arc::new(session)
    }

    /// The client has shown that it is this principal.
    pub fn authenticate(&self, principal: &str) {
        *self.principal.write() = principal.into();
        self.authenticated.store(true, Ordering::Release);
    }

    /// The principal, `User:ANONYMOUS` until the client has shown who it is.
    #[must_use]
    pub fn principal(&self) -> Arc<str> {
        Arc::clone(&self.principal.read())
    }

    /// Whether the client has shown who it is.
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        self.authenticated.load(Ordering::Acquire)
    }
}

/// Where the client is.
#[derive(Debug, Clone)]
pub enum Peer {
    /// There, for the life of the connection.
    Fixed(SocketAddr),
    /// Wherever the QUIC connection has migrated to.
    Migrating(quinn::Connection),
}

impl Peer {
    /// The address now, IPv4 as such even on a dual-stack socket.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        let address = match self {
            Self::Fixed(address) => *address,
            Self::Migrating(connection) => connection.remote_address(),
        };
        SocketAddr::new(address.ip().to_canonical(), address.port())
    }
}

/// What a client says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientInfo {
    /// The client id of its requests.
    pub id: Option<String>,
    /// The library's name, from ApiVersions.
    pub software_name: Option<String>,
    /// The library's version, from ApiVersions.
    pub software_version: Option<String>,
}

/// One Kafka connection: a TCP connection, or a stream of a QUIC connection.
#[derive(Debug)]
pub struct Context {
    id: u64,
    listener: Arc<ListenerInfo>,
    peer: Peer,
    session: Arc<Session>,
    limits: Arc<Limits>,
    answers: Arc<Answers>,
    client: RwLock<Arc<ClientInfo>>,
    throttled_until: Mutex<Option<Instant>>,
}

impl Context {
    /// A context for a connection; `id` is unique in the process.
    #[must_use]
    pub fn new(
        id: u64,
        listener: Arc<ListenerInfo>,
        peer: Peer,
        session: Arc<Session>,
        limits: Arc<Limits>,
        answers: Arc<Answers>,
    ) -> Arc<Self> {
        let client = RwLock::default();
        Arc::new(Self { id, listener, peer, session, limits, answers, client, throttled_until: Mutex::default() })
    }

    /// The connection's number, unique in the process.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The door through which it came.
    #[must_use]
    pub fn listener(&self) -> &ListenerInfo {
        &self.listener
    }

    /// How it travels.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.listener.transport
    }

    /// The name of the listener that the client came through.
    #[must_use]
    pub fn listener_name(&self) -> &str {
        &self.listener.name
    }

    /// The address of this broker that this client is to be given.
    #[must_use]
    pub fn advertised(&self) -> &Address {
        &self.listener.advertised
    }

    /// Where the client is now.
    #[must_use]
    pub fn peer_address(&self) -> SocketAddr {
        self.peer.address()
    }

    /// Who the client is.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The principal, `User:ANONYMOUS` until the client has shown who it is.
    #[must_use]
    pub fn principal(&self) -> Arc<str> {
        self.session.principal()
    }

    /// The bounds in force.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The budget that answers are made from.
    #[must_use]
    pub fn answers(&self) -> &Arc<Answers> {
        &self.answers
    }

    /// What the client said about itself.
    #[must_use]
    pub fn client(&self) -> Arc<ClientInfo> {
        Arc::clone(&self.client.read())
    }

    /// Keeps what the client said about itself.
    pub fn set_client(&self, client: ClientInfo) {
        *self.client.write() = Arc::new(client);
    }

    /// The next request is not read before this long from now; the answer of this one is not held up.
    pub fn throttle(&self, delay: Duration) {
        let until = Instant::now() + delay;
        let mut throttled_until = self.throttled_until.lock();
        *throttled_until = Some(throttled_until.map_or(until, |before| before.max(until)));
    }

    /// Returns once no throttling is in force.
    pub(crate) async fn throttled(&self) {
        loop {
            let until = *self.throttled_until.lock();
            let Some(until) = until.filter(|until| *until > Instant::now()) else { return };
            tokio::time::sleep_until(until).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for text in ["localhost:9092", "[::1]:0", "127.0.0.1:65535", "broker-0.example:1"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in
            ["", "localhost", ":9092", "localhost:", "localhost:65536", "::1:9092", "[::1:1", "[localhost]:1", "[]:1"]
        {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.to_string().contains("HOST:PORT"), "{text}");
        }
    }

    #[test]
    fn a_session_is_anonymous_until_authenticated() {
        let session = Session::default();
        assert_eq!((&*session.principal(), session.is_authenticated()), ("User:ANONYMOUS", false));
        session.authenticate("User:CN=a");
        assert_eq!((&*session.principal(), session.is_authenticated()), ("User:CN=a", true));
    }
}
