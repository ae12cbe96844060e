//! Which local address stands for which broker, and the listeners behind these addresses.
//!
//! The brokers that `--to` names, or the only one of a cluster of one, are the address that the proxy was told to
//! listen on. Every other broker gets a port of its own on the same local address when an answer first names it, and
//! keeps it as long as the proxy runs, so that clients that remember an address find the same broker there.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use client::Address;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::pipe;
use super::rewrite::Answer;
use super::upstream::{Dialer, Upstream};

/// How many brokers a cluster may have before the proxy stops opening ports.
const BROKERS_MAX: usize = 1024;
/// How many clients may be connected at once; more wait.
const CONNECTIONS_MAX: usize = 4096;
/// How long accepting pauses after the system refused a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The running proxy.
pub(super) struct Proxy {
    dialer: Dialer,
    target: Vec<Address>,
    local: SocketAddr,
    known: Mutex<HashMap<Address, u16>>,
    slots: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Proxy {
    pub(super) fn new(dialer: Dialer, target: Vec<Address>, local: SocketAddr, stop: CancellationToken) -> Arc<Proxy> {
        let known = Mutex::new(target.iter().map(|address| (address.clone(), local.port())).collect());
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Arc::new(Proxy { dialer, target, local, known, slots, tasks: TaskTracker::new(), stop })
    }

    /// The way to what `--to` names.
    pub(super) fn upstream(&self) -> Arc<Upstream> {
        Upstream::new(self.dialer.clone(), self.target.clone())
    }

    /// Carries every connection that the listener gets, until the proxy stops.
    pub(super) fn accept(self: Arc<Proxy>, listener: TcpListener, upstream: Arc<Upstream>) -> BoxFuture<'static, ()> {
        // Boxed, because connections open listeners, which carry connections.
        Box::pin(self.accept_all(listener, upstream))
    }

    async fn accept_all(self: Arc<Proxy>, listener: TcpListener, upstream: Arc<Upstream>) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = self.next(&listener) => accepted,
            };
            match accepted {
                Ok((client, slot)) => {
                    let (proxy, upstream) = (Arc::clone(&self), Arc::clone(&upstream));
                    self.tasks.spawn(async move {
                        let _slot = slot;
                        let stop = proxy.stop.clone();
                        tokio::select! {
                            () = stop.cancelled() => {}
                            () = Box::pin(pipe::carry(client, &upstream, &proxy)) => {}
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn next(&self, listener: &TcpListener) -> std::io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
        let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(std::io::Error::other)?;
        let (client, _) = listener.accept().await?;
        Ok((client, slot))
    }

    /// Waits until all connections have ended, after the stop.
    pub(super) async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Puts local addresses in the place of the brokers'. `seen` is the address at which this client found us: it can
    /// reach our other ports there too.
    pub(super) async fn localise(self: &Arc<Proxy>, answer: &mut Answer, seen: IpAddr) {
        let host = seen.to_canonical().to_string();
        let all = answer.lists_all_brokers();
        let mut endpoints = answer.endpoints();
        let only = all && endpoints.len() == 1;
        for endpoint in &mut endpoints {
            let Some((remote, port)) = endpoint.get() else { continue };
            let remote = Address { host: remote.to_owned(), port };
            if let Some(port) = self.port_for(remote, only).await {
                endpoint.set(&host, port);
            }
        }
    }

    /// The local port that stands for a broker; opened where it is the first time that the broker is named.
    async fn port_for(self: &Arc<Proxy>, remote: Address, only: bool) -> Option<u16> {
        {
            let mut known = self.known.lock();
            if let Some(port) = known.get(&remote) {
                return Some(*port);
            }
            if only {
                known.insert(remote, self.local.port());
                return Some(self.local.port());
            }
            if known.len() >= BROKERS_MAX {
                tracing::error!(brokers = BROKERS_MAX, "too many brokers: no port is opened for another");
                return None;
            }
        }
        let opened = TcpListener::bind((self.local.ip(), 0)).await;
        let opened = opened.and_then(|listener| listener.local_addr().map(|local| (listener, local.port())));
        let (listener, port) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                tracing::error!(%error, broker = %remote, "cannot open a port for a broker");
                return None;
            }
        };
        {
            // Another connection may have opened one meanwhile; the first stays.
            let mut known = self.known.lock();
            if let Some(port) = known.get(&remote) {
                return Some(*port);
            }
            known.insert(remote.clone(), port);
        }
        tracing::info!(port, broker = %remote, "listening for a broker");
        let upstream = Upstream::new(self.dialer.clone(), vec![remote]);
        self.tasks.spawn(Arc::clone(self).accept(listener, upstream));
        Some(port)
    }
}
