//! QUIC: one connection to each broker, and on it one stream for each Kafka connection. The streams do not block each
//! other, and the connection outlives a change of the client's address.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use quinn::{ClientConfig, Connection, Endpoint, TransportConfig, VarInt};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use super::{Reader, Writer};
use crate::Address;

/// Nothing tells that nobody listens on a UDP port: where a name has several addresses, they are tried this far apart.
const STAGGER: Duration = Duration::from_millis(200);
/// Below common NAT time-outs (30 s).
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT_MS: u32 = 30_000;
/// What a broker may send ahead on one stream; a fetch fills it, memory bounds it.
const STREAM_WINDOW: u32 = 8 << 20;
const CONNECTION_WINDOW: u32 = 32 << 20;
/// Bytes that may wait for acknowledgement in our direction.
const SEND_WINDOW: u64 = 16 << 20;
/// How long the farewell may take.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

pub(super) struct Quic {
    config: ClientConfig,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// One socket for each address family, made when first needed.
    v4: Option<Endpoint>,
    v6: Option<Endpoint>,
    connections: HashMap<Address, Arc<Mutex<Option<Connection>>>>,
}

impl Quic {
    pub(super) fn new(mut config: ClientConfig) -> Self {
        let mut transport = TransportConfig::default();
        transport
            .keep_alive_interval(Some(KEEP_ALIVE))
            .max_idle_timeout(Some(VarInt::from_u32(IDLE_TIMEOUT_MS).into()))
            .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
            .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
            .send_window(SEND_WINDOW)
            // Brokers open no streams to clients.
            .max_concurrent_bidi_streams(VarInt::from_u32(0))
            .max_concurrent_uni_streams(VarInt::from_u32(0));
        config.transport_config(Arc::new(transport));
        Self { config, state: Mutex::default() }
    }

    pub(super) async fn open(&self, address: &Address, candidates: &[SocketAddr]) -> Result<(Reader, Writer), String> {
        let slot = self.state.lock().await.connections.entry(address.clone()).or_default().clone();
        let connection = {
            let mut slot = slot.lock().await;
            match slot.as_ref().filter(|connection| connection.close_reason().is_none()) {
                Some(connection) => connection.clone(),
                None => slot.insert(self.connect(address, candidates).await?).clone(),
            }
        };
        let (writer, reader) = connection.open_bi().await.map_err(|error| error.to_string())?;
        Ok((Box::new(reader), Box::new(writer)))
    }

    async fn connect(&self, address: &Address, candidates: &[SocketAddr]) -> Result<Connection, String> {
        let mut attempts = FuturesUnordered::new();
        for (candidate, number) in candidates.iter().copied().zip(0_u32..) {
            let endpoint = self.endpoint(candidate).await?;
            attempts.push(async move {
                sleep(STAGGER * number).await;
                let connecting = endpoint
                    .connect_with(self.config.clone(), candidate, &address.host)
                    .map_err(|error| error.to_string())?;
                connecting.await.map_err(|error| error.to_string())
            });
        }
        let mut failure = "the name has no address".to_owned();
        while let Some(attempt) = attempts.next().await {
            match attempt {
                Ok(connection) => return Ok(connection),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn endpoint(&self, candidate: SocketAddr) -> Result<Endpoint, String> {
        let mut state = self.state.lock().await;
        let (endpoint, local): (_, SocketAddr) = match candidate {
            SocketAddr::V4(_) => (&mut state.v4, (Ipv4Addr::UNSPECIFIED, 0).into()),
            SocketAddr::V6(_) => (&mut state.v6, (Ipv6Addr::UNSPECIFIED, 0).into()),
        };
        match endpoint {
            Some(endpoint) => Ok(endpoint.clone()),
            None => Ok(endpoint.insert(Endpoint::client(local).map_err(|error| error.to_string())?).clone()),
        }
    }

    pub(super) async fn close(&self) {
        let state = self.state.lock().await;
        for endpoint in [&state.v4, &state.v6].into_iter().flatten() {
            endpoint.close(VarInt::from_u32(0), b"done");
            // Best effort: the broker's idle time-out does the same later.
            let _ = timeout(CLOSE_TIMEOUT, endpoint.wait_idle()).await;
        }
    }
}
