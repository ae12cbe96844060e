//! Identities and what follows from them: TLS configurations for TCP (rustls) and QUIC (quinn), the principal of a
//! client certificate, and a certificate authority for development.
//!
//! Promises: the cryptography provider (ring) is always named, never a process-wide default; TLS 1.3 and 1.2 on TCP,
//! 1.3 on QUIC with 0-RTT off; a reload swaps certificate, key and client CA together or not at all; an error names the
//! file, what is wrong with it and what to do.
//! Leaves to others: sockets and handshakes (`kafka`, `client`), watching the files for changes (the binary).

mod client;
pub mod dev;
mod error;
mod files;
mod identity;
mod principal;
mod server;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use client::{ClientSettings, Roots, client_config, quic_client_config};
pub use error::Error;
pub use identity::{Identity, IdentityFiles, is_for_name, not_after};
pub use principal::{ANONYMOUS, principal_of};
pub use server::{ClientAuth, Server, ServerSettings};

/// The application protocol that a QUIC connection must name (RFC 7301): each of its streams is a Kafka connection.
pub const ALPN_KAFKA: &[u8] = b"kafka";

/// The one cryptography provider, given explicitly to every configuration.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
