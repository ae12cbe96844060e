//! A client's side: whom it trusts, and who it says it is.

use std::{path::PathBuf, sync::Arc};

use quinn::crypto::rustls::QuicClientConfig;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::SingleCertAndKey,
    version::{TLS12, TLS13},
};

use crate::{ALPN_KAFKA, Error, Identity, IdentityFiles, files, provider};

/// Whom a client trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// The CAs of this PEM file, and no others.
    File(PathBuf),
    /// The CAs that the operating system trusts.
    System,
    /// Everybody. The traffic is encrypted, but to whom is not known: only where a person asked for it by name.
    Insecure,
}

/// What a client's configurations are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSettings {
    /// Whom it trusts.
    pub roots: Roots,
    /// Who it says it is, for servers that ask.
    pub identity: Option<IdentityFiles>,
}

/// A configuration for TLS over TCP: 1.3 and 1.2, no ALPN.
///
/// # Errors
/// A file is missing or wrong, or the system has no roots.
pub fn client_config(settings: &ClientSettings) -> Result<Arc<ClientConfig>, Error> {
    Ok(Arc::new(build(settings, &[&TLS13, &TLS12])?))
}

/// A configuration for QUIC: TLS 1.3, ALPN `kafka`, no 0-RTT. The transport's limits are the caller's.
///
/// # Errors
/// As [`client_config`].
pub fn quic_client_config(settings: &ClientSettings) -> Result<quinn::ClientConfig, Error> {
    let mut config = build(settings, &[&TLS13])?;
    config.alpn_protocols = vec![ALPN_KAFKA.to_vec()];
    let config = QuicClientConfig::try_from(config).map_err(|error| Error::Setup(error.to_string()))?;
    Ok(quinn::ClientConfig::new(Arc::new(config)))
}

fn build(
    settings: &ClientSettings,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions)?;
    let builder = match &settings.roots {
        Roots::File(path) => builder.with_root_certificates(files::read_roots(path)?),
        Roots::System => builder.with_root_certificates(system_roots()?),
        Roots::Insecure => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustEverybody { provider: provider() }))
        }
    };
    let mut config = match &settings.identity {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let identity = Identity::load(files)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified())))
        }
    };
    config.enable_early_data = false;
    Ok(config)
}

fn system_roots() -> Result<RootCertStore, Error> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let problems: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        let problems = if problems.is_empty() { "none were found".into() } else { problems.join(", ") };
        return Err(Error::NoSystemRoots(problems));
    }
    Ok(roots)
}

/// Accepts any certificate, but still checks that the peer holds its key.
#[derive(Debug)]
struct TrustEverybody {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for TrustEverybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
