//! This broker among the others: where they reach it, and its part in having one controller.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use cluster::{Node, PeerTls, Peers, Server, ServerLimits, Tcp, Timing};
use metadata::election::Election;
use tokio::net::TcpListener;

use crate::broker::Address;
use crate::config::{Config, Protocol};

/// The bound listener for other brokers.
pub(crate) struct PeerListener {
    pub(crate) network: Arc<Tcp>,
    pub(crate) address: Address,
}

/// Binds the listener for other brokers, where the configuration has one.
pub(crate) async fn bind(config: &Config) -> anyhow::Result<Option<PeerListener>> {
    let Some(listener) = config.listeners.iter().find(|listener| listener.protocol == Protocol::Peer) else {
        return Ok(None);
    };
    let at = || format!("listener {}", listener.name);
    let addresses = listener.bind_addresses().with_context(at)?;
    let address: SocketAddr = *addresses.first().context("no address").with_context(at)?;
    let socket =
        TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}")).with_context(at)?;
    let bound = socket.local_addr().with_context(at)?;
    let network = Tcp::new(socket, peer_tls(config)?).with_context(at)?;
    let address = Address {
        listener: listener.name.clone(),
        protocol: Protocol::Peer,
        tls: true,
        bound,
        advertised: listener.advertised(bound),
    };
    Ok(Some(PeerListener { network: Arc::new(network), address }))
}

fn peer_tls(config: &Config) -> anyhow::Result<PeerTls> {
    let file = |file: &Option<std::path::PathBuf>, key: &str| {
        file.clone().ok_or_else(|| anyhow!("a listener for brokers needs tls.{key}"))
    };
    let certificate = file(&config.tls.peer_certificate_file, "peer_certificate_file")?;
    let key = file(&config.tls.peer_key_file, "peer_key_file")?;
    let ca = file(&config.tls.peer_ca_file, "peer_ca_file")?;
    Ok(PeerTls { identity: tls::IdentityFiles { certificate, key }, ca })
}

/// Begins to take part, and to answer other brokers.
pub(crate) fn join(
    config: &Config,
    listener: Option<PeerListener>,
    metadata: metadata::Options,
    metrics: cluster::Metrics,
) -> (Node, Option<Server>) {
    let address = listener.as_ref().map(|listener| listener.address.advertised()).unwrap_or_default();
    let name = config.broker.name.clone();
    let election = Election::new(metadata.store.clone(), &metadata.cluster, metadata.random.clone(), name, address);
    let peers = listener.as_ref().map(|listener| Peers::new(listener.network.clone()));
    let node = Node::start(cluster::Options { metadata, election, peers, timing: Timing::default(), metrics });
    let server = listener.map(|listener| Server::start(listener.network, node.routes(), ServerLimits::default()));
    (node, server)
}
