//! A server's side: configurations for TCP and QUIC, held so that a reload swaps all of them at once.
//!
//! A connection takes the configuration that is current when its handshake begins and keeps it.

use std::{fmt, path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use quinn::crypto::rustls::QuicServerConfig;
use records::Timestamp;
use rustls::{
    ServerConfig,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::SingleCertAndKey,
    version::{TLS12, TLS13},
};

use crate::{ALPN_KAFKA, Error, Identity, IdentityFiles, files, provider};

/// Whether clients show a certificate, and whose.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// Clients are not asked.
    #[default]
    None,
    /// Clients may show a certificate of this CA; one of another CA is refused.
    Optional {
        /// PEM: the CA's certificates.
        ca: PathBuf,
    },
    /// Clients must show a certificate of this CA.
    Required {
        /// PEM: the CA's certificates.
        ca: PathBuf,
    },
}

/// What a server's configurations are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// The server's certificate and key.
    pub identity: IdentityFiles,
    /// What is asked of clients.
    pub client_auth: ClientAuth,
}

/// One loaded state of the files.
struct Loaded {
    identity: Identity,
    tcp: Arc<ServerConfig>,
    quic: Arc<QuicServerConfig>,
}

/// A server's configurations, current at the last successful load.
pub struct Server {
    settings: ServerSettings,
    current: ArcSwap<Loaded>,
}

impl Server {
    /// Loads the files and builds the configurations.
    ///
    /// # Errors
    /// A file is missing or wrong; the error says which and how.
    pub fn load(settings: ServerSettings) -> Result<Arc<Self>, Error> {
        let loaded = Loaded::from_files(&settings)?;
        Ok(Arc::new(Self { settings, current: ArcSwap::from_pointee(loaded) }))
    }

    /// Reads the files again and swaps to them. Connections that exist keep what they have.
    ///
    /// # Errors
    /// As [`Server::load`]; what was there before stays in use.
    pub fn reload(&self) -> Result<(), Error> {
        self.current.store(Arc::new(Loaded::from_files(&self.settings)?));
        Ok(())
    }

    /// The configuration for TLS over TCP: 1.3 and 1.2, no ALPN (Kafka clients send none).
    #[must_use]
    pub fn tcp(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load().tcp)
    }

    /// The configuration for QUIC: TLS 1.3, ALPN `kafka`, no 0-RTT.
    #[must_use]
    pub fn quic(&self) -> Arc<QuicServerConfig> {
        Arc::clone(&self.current.load().quic)
    }

    /// The identity in use.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.current.load().identity.clone()
    }

    /// The last moment at which the certificate in use is valid.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.current.load().identity.not_after()
    }

    /// What it was loaded from.
    #[must_use]
    pub fn settings(&self) -> &ServerSettings {
        &self.settings
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Loaded {
    fn from_files(settings: &ServerSettings) -> Result<Self, Error> {
        let identity = Identity::load(&settings.identity)?;
        let verifier = verifier(&settings.client_auth)?;
        let resolver = Arc::new(SingleCertAndKey::from(identity.certified()));
        let build = |versions: &[&'static rustls::SupportedProtocolVersion]| -> Result<ServerConfig, Error> {
            let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions)?;
            let mut config =
                builder.with_client_cert_verifier(Arc::clone(&verifier)).with_cert_resolver(resolver.clone());
            // 0-RTT data can be replayed by anyone who saw it.
            config.max_early_data_size = 0;
            Ok(config)
        };
        let tcp = Arc::new(build(&[&TLS13, &TLS12])?);
        let mut quic = build(&[&TLS13])?;
        quic.alpn_protocols = vec![ALPN_KAFKA.to_vec()];
        let quic = QuicServerConfig::try_from(quic).map_err(|error| Error::Setup(error.to_string()))?;
        Ok(Self { identity, tcp, quic: Arc::new(quic) })
    }
}

fn verifier(client_auth: &ClientAuth) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let (ca, required) = match client_auth {
        ClientAuth::None => return Ok(WebPkiClientVerifier::no_client_auth()),
        ClientAuth::Optional { ca } => (ca, false),
        ClientAuth::Required { ca } => (ca, true),
    };
    let roots = Arc::new(files::read_roots(ca)?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
    let builder = if required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| Error::Setup(error.to_string()))
}
