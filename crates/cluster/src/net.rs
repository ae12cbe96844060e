//! Byte streams between brokers. Everything above asks a [`Network`] for them, so that the simulator can put its own in place.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use rustls::pki_types::ServerName;
use tls::{ClientAuth, ClientSettings, IdentityFiles, Roots, ServerSettings};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A stream of bytes to another broker, encrypted and with both sides known, where the network does that.
pub struct Stream(Pin<Box<dyn Io>>);

trait Io: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Io for T {}

impl Stream {
    /// One over these bytes.
    pub fn new(io: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        Self(Box::pin(io))
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.as_mut().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.as_mut().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

/// How a broker reaches others, and is reached.
#[async_trait]
pub trait Network: Send + Sync + 'static {
    /// Waits for the next caller, who may still be anybody. Cancellation safe.
    async fn accept(&self) -> io::Result<Incoming>;

    /// Calls the broker that listens at `HOST:PORT`. Callers set a time-out. Cancellation safe.
    async fn connect(&self, address: &str) -> io::Result<Stream>;
}

/// A caller who has not shown who it is.
pub struct Incoming {
    /// Where it calls from, for logs.
    pub from: String,
    /// What is left to do, and may take as long as the caller likes.
    pub handshake: Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>,
}

/// The certificates with which brokers know each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerTls {
    /// This broker's certificate, for the names that others reach it by, and as a client; and its key.
    pub identity: IdentityFiles,
    /// PEM: the CA that signed those of all brokers.
    pub ca: PathBuf,
}

/// TCP with mutual TLS.
pub struct Tcp {
    listener: tokio::net::TcpListener,
    server: Arc<tls::Server>,
    tls: PeerTls,
}

impl Tcp {
    /// Over a bound socket.
    ///
    /// # Errors
    /// A certificate's file is missing or wrong; the error says which and how.
    pub fn new(listener: tokio::net::TcpListener, tls: PeerTls) -> Result<Self, tls::Error> {
        let client_auth = ClientAuth::Required { ca: tls.ca.clone() };
        let server = tls::Server::load(ServerSettings { identity: tls.identity.clone(), client_auth })?;
        Ok(Self { listener, server, tls })
    }

    /// The certificates in use, to be reloaded when their files change.
    #[must_use]
    pub fn certificates(&self) -> Arc<tls::Server> {
        self.server.clone()
    }
}

#[async_trait]
impl Network for Tcp {
    async fn accept(&self) -> io::Result<Incoming> {
        let (socket, from) = self.listener.accept().await?;
        let acceptor = TlsAcceptor::from(self.server.tcp());
        let handshake = async move {
            socket.set_nodelay(true)?;
            Ok(Stream::new(acceptor.accept(socket).await?))
        };
        Ok(Incoming { from: from.to_string(), handshake: Box::pin(handshake) })
    }

    async fn connect(&self, address: &str) -> io::Result<Stream> {
        let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
        let (host, _) = address.rsplit_once(':').ok_or_else(|| wrong(format!("{address} is not HOST:PORT")))?;
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
            .map_err(|error| wrong(format!("{host} names no host: {error}")))?;
        // Read anew for each connection, of which there are few: so a renewed certificate is used at once.
        let settings =
            ClientSettings { roots: Roots::File(self.tls.ca.clone()), identity: Some(self.tls.identity.clone()) };
        let config = tls::client_config(&settings).map_err(io::Error::other)?;
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Stream::new(TlsConnector::from(config).connect(name, socket).await?))
    }
}
