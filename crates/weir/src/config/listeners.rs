//! `listeners` and `tls`: where the broker listens, what it tells clients to connect to, and with which certificates.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::secret::Secret;

/// One address that the broker listens on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listener {
    /// The listener's name, for logs and metrics. Required; no two listeners share one.
    #[schemars(length(min = 1, max = 64))]
    pub(crate) name: String,
    /// What is spoken there. Required.
    pub(crate) protocol: Protocol,
    /// Where to listen, `HOST:PORT`: TCP for `kafka`, `peer` and `http`, UDP for `quic`. Required. `0.0.0.0` or `[::]` is
    /// every address of the machine; a host name is every address that it stands for; port 0 takes a free port.
    pub(crate) address: String,
    /// What clients that came through this listener, or other brokers, are told to connect to, `HOST:PORT`. Default: the address
    /// itself. Required where the address is `0.0.0.0` or `[::]`, which no client can connect to. Port 0 stands for
    /// the port that the listener really has.
    #[serde(default)]
    pub(crate) advertised: Option<String>,
    /// TLS on a `kafka` listener, with the certificate of the `tls` section. Default: false. QUIC always has it.
    #[serde(default)]
    pub(crate) tls: bool,
    /// How clients prove who they are. Default: `none`.
    #[serde(default)]
    pub(crate) authentication: Authentication,
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Protocol {
    /// The Kafka protocol on TCP, with or without TLS.
    Kafka,
    /// The Kafka protocol on QUIC.
    Quic,
    /// What brokers say to each other, over mutual TLS with the certificates `tls.peer_…`. A broker without such a
    /// listener is alone in its cluster.
    Peer,
    /// Health and metrics over HTTP.
    Http,
}

/// How clients of a listener prove who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Authentication {
    /// Not at all: everyone who reaches the listener is `ANONYMOUS`.
    #[default]
    None,
    /// By a certificate that `tls.client_ca_file` has signed; its subject is the principal. Needs TLS or QUIC.
    MutualTls,
}

impl Listener {
    /// Whether its connections are encrypted.
    pub(crate) fn uses_tls(&self) -> bool {
        self.tls || self.protocol == Protocol::Quic
    }

    /// The socket addresses to bind: all that the host stands for, but only the first when the port is to be any
    /// free one (two sockets would get two ports).
    pub(crate) fn bind_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for address in self.address.to_socket_addrs()? {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        // IPv4 first: it is what answers everywhere, and what a free port is taken from.
        addresses.sort_by_key(SocketAddr::is_ipv6);
        if addresses.first().is_some_and(|address| address.port() == 0) {
            addresses.truncate(1);
        }
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the host name stands for no address"));
        }
        Ok(addresses)
    }

    /// The host and port that clients are told, once the listener is bound.
    pub(crate) fn advertised(&self, bound: SocketAddr) -> (String, u16) {
        let text = self.advertised.as_deref().unwrap_or(&self.address);
        match split_host_port(text) {
            Some((host, 0)) => (host.to_owned(), bound.port()),
            Some((host, port)) => (host.to_owned(), port),
            None => (bound.ip().to_string(), bound.port()),
        }
    }
}

/// `HOST:PORT` apart, IPv6 addresses in brackets; the host comes without brackets.
pub(crate) fn split_host_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    (!host.is_empty()).then_some((host, port))
}

/// Whether the host is "every address", which can be bound and not connected to.
pub(crate) fn is_wildcard(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
}

/// The listeners of a file that names none: this machine only.
pub(super) fn defaults() -> Vec<Listener> {
    let listener = |name: &str, protocol, address: &str| Listener {
        name: name.to_owned(),
        protocol,
        address: address.to_owned(),
        advertised: None,
        tls: false,
        authentication: Authentication::None,
    };
    vec![listener("kafka", Protocol::Kafka, "127.0.0.1:9092"), listener("http", Protocol::Http, "127.0.0.1:9080")]
}

/// Certificates, as PEM files. They are read again while the broker runs, so that a renewed one needs no restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Tls {
    /// The broker's certificate, followed by those that link it to its CA. Default: none. Needed by every listener
    /// with TLS or QUIC; it must hold the names that clients connect to.
    pub(crate) certificate_file: Option<PathBuf>,
    /// The private key of the certificate. Default: none.
    pub(crate) key_file: Option<PathBuf>,
    /// The CAs whose certificates clients may show, where a listener's authentication is `mutual_tls`. Default: none.
    pub(crate) client_ca_file: Option<PathBuf>,
    /// The certificate by which other brokers know this one, as a server and as a client. Default: none. Needed by a
    /// `peer` listener; it must hold the name that other brokers connect to.
    pub(crate) peer_certificate_file: Option<PathBuf>,
    /// The private key of the certificate for brokers. Default: none.
    pub(crate) peer_key_file: Option<PathBuf>,
    /// The CA that signs the certificates of brokers, and nothing else: whoever has one is a broker. Default: none.
    pub(crate) peer_ca_file: Option<PathBuf>,
    /// How often, in milliseconds, the files are looked at for a change. Default: 30000. Connections that stand keep
    /// the certificate that they began with.
    #[schemars(range(min = 100, max = 86_400_000))]
    pub(crate) reload_interval_ms: u64,
    /// The secret, 32 bytes at least, from which the key of QUIC's address tokens follows. Default: none; each broker
    /// draws a key of its own. Brokers behind one address need the same one, because a client that one of them asks to
    /// show its address may come back to another.
    pub(crate) quic_token_key: Option<Secret>,
}

impl Default for Tls {
    fn default() -> Tls {
        Tls {
            certificate_file: None,
            key_file: None,
            client_ca_file: None,
            peer_certificate_file: None,
            peer_key_file: None,
            peer_ca_file: None,
            reload_interval_ms: 30_000,
            quic_token_key: None,
        }
    }
}
