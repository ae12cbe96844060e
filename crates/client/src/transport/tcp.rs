//! TCP, and TLS over it.

use std::net::SocketAddr;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Reader, Writer};

pub(super) async fn open(candidates: &[SocketAddr]) -> Result<(Reader, Writer), String> {
    let (reader, writer) = connect(candidates).await?.into_split();
    Ok((Box::new(reader), Box::new(writer)))
}

pub(super) async fn open_tls(
    candidates: &[SocketAddr],
    host: &str,
    connector: &TlsConnector,
) -> Result<(Reader, Writer), String> {
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let stream = connect(candidates).await?;
    let stream = connector.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
    let (reader, writer) = tokio::io::split(stream);
    Ok((Box::new(reader), Box::new(writer)))
}

/// The first candidate that answers; a closed port says so at once.
async fn connect(candidates: &[SocketAddr]) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(candidates).await.map_err(|error| error.to_string())?;
    // Requests are written whole: waiting for more bytes only adds latency.
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    Ok(stream)
}
