//! Byte streams to brokers: TCP, TLS over TCP, or a stream of a QUIC connection. What travels on them is the same.

mod quic;
mod tcp;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::{Address, ClientConfig, Error, Scheme};

/// The reading half of a stream.
pub(crate) type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// The writing half of a stream.
pub(crate) type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// Opens streams.
pub(crate) struct Transport {
    kind: Kind,
    connect_timeout: std::time::Duration,
}

enum Kind {
    Plain,
    Tls(TlsConnector),
    Quic(Box<quic::Quic>),
}

impl Transport {
    /// Reads the certificates, if the scheme needs them.
    pub(crate) fn new(config: &ClientConfig) -> Result<Self, Error> {
        let kind = match config.target.scheme {
            Scheme::Kafka => Kind::Plain,
            Scheme::Kafkas => Kind::Tls(TlsConnector::from(tls::client_config(&settings(config)?).map_err(Arc::new)?)),
            Scheme::Quic => {
                Kind::Quic(Box::new(quic::Quic::new(tls::quic_client_config(&settings(config)?).map_err(Arc::new)?)))
            }
        };
        Ok(Self { kind, connect_timeout: config.connect_timeout })
    }

    /// Opens a stream to a broker. Safe to cancel.
    pub(crate) async fn open(&self, address: &Address) -> Result<(Reader, Writer), Error> {
        let opening = async {
            let candidates = resolve(address).await?;
            match &self.kind {
                Kind::Plain => tcp::open(&candidates).await,
                Kind::Tls(connector) => tcp::open_tls(&candidates, &address.host, connector).await,
                Kind::Quic(quic) => quic.open(address, &candidates).await,
            }
        };
        let unreachable = |reason: String| Error::Unreachable { address: address.clone(), reason };
        match timeout(self.connect_timeout, opening).await {
            Ok(opened) => opened.map_err(unreachable),
            Err(_) => Err(unreachable(format!("no answer within {:?}", self.connect_timeout))),
        }
    }

    /// Says farewell where the protocol has one, so that brokers need not wait for a time-out.
    pub(crate) async fn close(&self) {
        if let Kind::Quic(quic) = &self.kind {
            quic.close().await;
        }
    }
}

fn settings(config: &ClientConfig) -> Result<tls::ClientSettings, Error> {
    let options = &config.tls;
    let roots = match (&options.ca, options.insecure) {
        (_, true) => tls::Roots::Insecure,
        (Some(ca), false) => tls::Roots::File(ca.clone()),
        (None, false) => tls::Roots::System,
    };
    let identity = match (&options.cert, &options.key) {
        (Some(certificate), Some(key)) => {
            Some(tls::IdentityFiles { certificate: certificate.clone(), key: key.clone() })
        }
        (None, None) => None,
        _ => return Err(Error::Config("a client certificate needs its key, and a key its certificate".into())),
    };
    Ok(tls::ClientSettings { roots, identity })
}

async fn resolve(address: &Address) -> Result<Vec<SocketAddr>, String> {
    let found = tokio::net::lookup_host((address.host.as_str(), address.port)).await;
    let found: Vec<_> = found.map_err(|error| error.to_string())?.collect();
    if found.is_empty() { Err("the name has no address".into()) } else { Ok(found) }
}
