//! The listeners' ports: free, taken by the broker that runs, or taken by somebody else.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use super::Finding;
use crate::config::{Config, Protocol};

/// Every listener. `running` is the process of a broker that runs on this configuration, where there is one.
pub(super) fn examine(config: &Config, running: Option<&str>) -> Vec<Finding> {
    let findings = config.listeners.iter().map(|listener| {
        let check = format!("listener {}", listener.name);
        let remedy = format!("correct `address` of the listener {}", listener.name);
        let addresses = match listener.bind_addresses() {
            Ok(addresses) => addresses,
            Err(error) => return Finding::failed(check, format!("{}: {error}", listener.address), remedy),
        };
        let shown = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let failure = addresses.iter().find_map(|address| bind(*address, listener.protocol).err());
        match (failure, running) {
            (None, _) => Finding::ok(check, format!("{shown}: free")),
            (Some(error), Some(process)) if error.kind() == io::ErrorKind::AddrInUse => {
                Finding::ok(check, format!("{shown}: in use, and the broker runs (process {process})"))
            }
            (Some(error), None) if error.kind() == io::ErrorKind::AddrInUse => Finding::failed(
                check,
                format!("{shown}: in use by another process"),
                format!("end that process, or {remedy}"),
            ),
            (Some(error), _) => Finding::failed(check, format!("{shown}: {error}"), remedy),
        }
    });
    findings.collect()
}

/// Whether the address can be bound now.
fn bind(address: SocketAddr, protocol: Protocol) -> io::Result<()> {
    match protocol {
        Protocol::Quic => UdpSocket::bind(address).map(drop),
        Protocol::Kafka | Protocol::Peer | Protocol::Http => TcpListener::bind(address).map(drop),
    }
}
