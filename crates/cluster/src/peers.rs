//! The side that calls: one channel to each address, made when it is first needed, and made again when it breaks.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::net::Network;

/// How long a call for a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a silent connection is asked whether it is still there, and how long it may take to answer.
const KEEPALIVE: Duration = Duration::from_secs(2);
/// Bytes of one connection that may be on their way to us and not taken yet.
const WINDOW_BYTES: u32 = 8 << 20;
/// Channels that are kept. More brokers than a cluster has: addresses that are not used any more make room.
const CHANNELS_MAX: usize = 1024;

/// The other brokers, by address. A clone is the same ones.
#[derive(Clone)]
pub struct Peers {
    network: Arc<dyn Network>,
    channels: Arc<Mutex<HashMap<String, Channel>>>,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").finish_non_exhaustive()
    }
}

/// An address that cannot be called.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not HOST:PORT")]
pub struct AddressError(String);

impl Peers {
    /// Those that are reached over this network.
    #[must_use]
    pub fn new(network: Arc<dyn Network>) -> Self {
        Self { network, channels: Arc::default() }
    }

    /// The channel to the broker at `HOST:PORT`. It connects with the first call, and again with the next one after it
    /// broke. Does not wait. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn channel(&self, address: &str) -> Result<Channel, AddressError> {
        let mut channels = self.channels.lock();
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let wrong = || AddressError(address.to_owned());
        let uri: Uri = format!("http://{address}").parse().map_err(|_| wrong())?;
        if uri.port().is_none() {
            return Err(wrong());
        }
        let endpoint = Endpoint::from(uri)
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true)
            .initial_connection_window_size(WINDOW_BYTES)
            .initial_stream_window_size(WINDOW_BYTES);
        let (network, address) = (self.network.clone(), address.to_owned());
        let called = address.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let (network, called) = (network.clone(), called.clone());
            async move { network.connect(&called).await.map(TokioIo::new) }
        });
        let channel = endpoint.connect_with_connector_lazy(connector);
        if channels.len() == CHANNELS_MAX {
            channels.clear();
        }
        channels.insert(address, channel.clone());
        Ok(channel)
    }
}
