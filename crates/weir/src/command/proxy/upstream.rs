//! The QUIC side: connections to one broker, each with many streams. A connection that died is replaced when the next
//! stream is asked for; streams of it have died with it, and clients reconnect.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use client::Address;
use futures::FutureExt;
use parking_lot::Mutex;
use quinn::{Connection, Endpoint, RecvStream, SendStream, TransportConfig, VarInt};
use tokio::sync::Semaphore;

/// How long connecting may take, with all addresses that the name stands for.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one address may take before the next is tried.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a silent connection is kept; keep-alives are sent well before.
const IDLE_TIMEOUT_MS: u32 = 30_000;
const KEEP_ALIVE: Duration = Duration::from_secs(8);
/// What the broker may send on one stream before it is read.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// The same for all streams of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
/// How many QUIC connections to one broker are made, when one has all the streams that the broker allows.
const CONNECTIONS_MAX: usize = 64;

/// Makes QUIC connections.
#[derive(Clone)]
pub(super) struct Dialer {
    config: quinn::ClientConfig,
    endpoints: Arc<Mutex<Endpoints>>,
}

/// One socket for each family of addresses, made when it is first needed.
#[derive(Default)]
struct Endpoints {
    v4: Option<Endpoint>,
    v6: Option<Endpoint>,
}

impl Dialer {
    pub(super) fn new(settings: &tls::ClientSettings) -> Result<Dialer, tls::Error> {
        let mut config = tls::quic_client_config(settings)?;
        let mut transport = TransportConfig::default();
        transport
            .max_idle_timeout(Some(VarInt::from_u32(IDLE_TIMEOUT_MS).into()))
            .keep_alive_interval(Some(KEEP_ALIVE))
            .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
            .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
            .send_window(CONNECTION_WINDOW_BYTES.into())
            // The broker opens none: each stream is a client's connection.
            .max_concurrent_bidi_streams(VarInt::from_u32(0))
            .max_concurrent_uni_streams(VarInt::from_u32(0));
        config.transport_config(Arc::new(transport));
        Ok(Dialer { config, endpoints: Arc::default() })
    }

    async fn dial(&self, host: &str, port: u16) -> anyhow::Result<Connection> {
        let mut addresses: Vec<SocketAddr> =
            tokio::net::lookup_host((host, port)).await.context("the host name is not known")?.collect();
        // IPv4 first: a datagram to an address where nobody listens is only answered by silence.
        addresses.sort_by_key(SocketAddr::is_ipv6);
        let mut last = anyhow::anyhow!("the host name stands for no address");
        for address in addresses {
            match tokio::time::timeout(ADDRESS_TIMEOUT, self.dial_address(address, host)).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => last = error,
                Err(_) => last = anyhow::anyhow!("{address} does not answer on UDP"),
            }
        }
        Err(last)
    }

    async fn dial_address(&self, address: SocketAddr, host: &str) -> anyhow::Result<Connection> {
        let endpoint = self.endpoint(address)?;
        let connecting = endpoint.connect_with(self.config.clone(), address, host)?;
        Ok(connecting.await?)
    }

    fn endpoint(&self, address: SocketAddr) -> std::io::Result<Endpoint> {
        let mut endpoints = self.endpoints.lock();
        let (slot, any): (_, SocketAddr) = if address.is_ipv4() {
            (&mut endpoints.v4, (Ipv4Addr::UNSPECIFIED, 0).into())
        } else {
            (&mut endpoints.v6, (Ipv6Addr::UNSPECIFIED, 0).into())
        };
        if let Some(endpoint) = slot {
            return Ok(endpoint.clone());
        }
        let endpoint = Endpoint::client(any)?;
        Ok(slot.insert(endpoint).clone())
    }
}

/// The way to one broker.
pub(super) struct Upstream {
    dialer: Dialer,
    /// Where it is; where there are several, the first that answers.
    addresses: Vec<Address>,
    connections: Mutex<Vec<Connection>>,
    /// Whoever holds the one permit makes the next connection; others wait for it instead of making their own.
    dialing: Semaphore,
}

impl Upstream {
    pub(super) fn new(dialer: Dialer, addresses: Vec<Address>) -> Arc<Upstream> {
        Arc::new(Upstream { dialer, addresses, connections: Mutex::default(), dialing: Semaphore::new(1) })
    }

    /// Makes a connection now, if there is none.
    pub(super) async fn connect(&self) -> anyhow::Result<()> {
        if self.alive().is_empty() { self.dial().await.map(drop) } else { Ok(()) }
    }

    /// A new stream, on a connection that stands or on a new one.
    pub(super) async fn open(&self) -> anyhow::Result<(SendStream, RecvStream)> {
        if let Some(stream) = self.open_on_standing() {
            return Ok(stream);
        }
        let _permit = self.dialing.acquire().await?;
        if let Some(stream) = self.open_on_standing() {
            return Ok(stream);
        }
        if self.alive().len() >= CONNECTIONS_MAX {
            anyhow::bail!("all streams of {CONNECTIONS_MAX} connections are in use");
        }
        let connection = self.dial().await?;
        Ok(tokio::time::timeout(CONNECT_TIMEOUT, connection.open_bi()).await.context("no stream was granted")??)
    }

    async fn dial(&self) -> anyhow::Result<Connection> {
        let mut last = anyhow::anyhow!("no address is known");
        for address in &self.addresses {
            let dialed = tokio::time::timeout(CONNECT_TIMEOUT, self.dialer.dial(&address.host, address.port)).await;
            match dialed.context("no answer in time").and_then(|dialed| dialed) {
                Ok(connection) => {
                    tracing::info!(broker = %address, remote = %connection.remote_address(), "connected");
                    self.connections.lock().push(connection.clone());
                    return Ok(connection);
                }
                Err(error) => last = error.context(format!("cannot reach quic://{address}")),
            }
        }
        Err(last)
    }

    /// A stream where one is free at once.
    fn open_on_standing(&self) -> Option<(SendStream, RecvStream)> {
        self.alive().iter().find_map(|connection| connection.open_bi().now_or_never()?.ok())
    }

    /// The connections that stand; the others are forgotten.
    fn alive(&self) -> Vec<Connection> {
        let mut connections = self.connections.lock();
        connections.retain(|connection| connection.close_reason().is_none());
        connections.clone()
    }
}
