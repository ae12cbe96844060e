//! `weir proxy`: gives any Kafka client QUIC. It listens on TCP on this machine; each connection becomes one
//! bidirectional stream of a QUIC connection to the cluster.
//!
//! Clients go where Metadata tells them, which would lead them past the proxy. So the few answers that name addresses
//! are rewritten to the proxy's own (`rewrite`), with one local listener for each broker (`addresses`); everything
//! else passes through as it is (`pipe`), in buffers of fixed size. `scan` follows a client's requests closely enough
//! to know which answer is which, and `upstream` keeps the QUIC connections, making new ones when they die.

mod addresses;
mod pipe;
mod rewrite;
mod scan;
mod upstream;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use client::{Scheme, TlsOptions};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::connection::ConnectionArgs;
use crate::exit::{Failure, Outcome};
use crate::interrupt::graceful;
use crate::output;

use self::addresses::Proxy;
use self::upstream::Dialer;

/// Give any Kafka client QUIC: listen on TCP here, carry each connection to the cluster.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  weir proxy --listen 127.0.0.1:9092 --to quic://broker.example:9092\n\n\
    Point Kafka clients at the address it listens on. Where the cluster has several brokers, the proxy opens one more \
    local port for each.")]
pub(crate) struct ProxyArgs {
    /// Where Kafka clients connect to.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9092")]
    listen: String,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs the command.
pub(crate) async fn run(args: ProxyArgs) -> Outcome {
    graceful(|stop| serve(args, stop)).await
}

async fn serve(args: ProxyArgs, stop: CancellationToken) -> Outcome {
    let target = args.connection.target()?;
    if target.scheme != Scheme::Quic {
        return Err(Failure::usage(format!("--to {target}: the proxy speaks QUIC; write quic://HOST:PORT")));
    }
    let dialer = Dialer::new(&settings(args.connection.tls(&target))).map_err(anyhow::Error::from)?;
    let listener = bind(&args.listen).await?;
    let local = listener.local_addr()?;
    let proxy = Proxy::new(dialer, target.addresses.clone(), local, stop.clone());
    let to = proxy.upstream();
    if let Err(error) = to.connect().await {
        // The cluster may well come up later; clients that connect meanwhile are told by a closed connection.
        tracing::warn!(cluster = %target, error = %format_args!("{error:#}"), "the cluster does not answer yet");
    }
    output::text(&format!("listening on {local}, carrying to {target}\nready"))?;
    Arc::clone(&proxy).accept(listener, to).await;
    proxy.ended().await;
    Ok(())
}

fn settings(options: TlsOptions) -> tls::ClientSettings {
    let roots = match options.ca {
        _ if options.insecure => tls::Roots::Insecure,
        Some(ca) => tls::Roots::File(ca),
        None => tls::Roots::System,
    };
    let identity = options.cert.zip(options.key);
    tls::ClientSettings { roots, identity: identity.map(|(certificate, key)| tls::IdentityFiles { certificate, key }) }
}

async fn bind(address: &str) -> anyhow::Result<TcpListener> {
    let failed = || format!("cannot listen on {address}; is something else listening there?");
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(address).await.with_context(failed)?.collect();
    TcpListener::bind(addresses.as_slice()).await.with_context(failed)
}
