//! An identity: a certificate chain with the key of its first certificate, loaded from PEM files and checked as a pair.

use std::{path::PathBuf, sync::Arc};

use records::Timestamp;
use rustls::{
    Error as RustlsError, InconsistentKeys,
    client::verify_server_name,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    server::ParsedCertificate,
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{Error, files};

/// Where an identity lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFiles {
    /// PEM: the certificate, then those of the CAs between it and the root.
    pub certificate: PathBuf,
    /// PEM: the private key, without a password.
    pub key: PathBuf,
}

/// A certificate chain and its key, known to belong together.
#[derive(Debug, Clone)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    not_after: Timestamp,
}

impl Identity {
    /// Reads and checks the pair.
    ///
    /// # Errors
    /// A file is missing, unreadable or not PEM, or the key belongs to another certificate.
    pub fn load(files: &IdentityFiles) -> Result<Self, Error> {
        let chain = files::read_certificates(&files.certificate, "certificate")?;
        let key = files::read_key(&files.key)?;
        let certificate_error = |problem: String| Error::Content {
            what: "certificate",
            path: files.certificate.clone(),
            problem,
            remedy: "it must be an X.509 certificate in PEM",
        };
        let not_after = not_after(&chain[0]).map_err(|error| certificate_error(error.to_string()))?;
        let certified = Self::pair(chain, key).map_err(|error| match error {
            RustlsError::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                Error::Mismatch { certificate: files.certificate.clone(), key: files.key.clone() }
            }
            RustlsError::InvalidCertificate(problem) => certificate_error(format!("{problem:?}")),
            other => Error::Content {
                what: "usable private key",
                path: files.key.clone(),
                problem: other.to_string(),
                remedy: "use an ECDSA (P-256, P-384), Ed25519 or RSA key of 2048 bits or more",
            },
        })?;
        Ok(Self { certified: Arc::new(certified), not_after })
    }

    fn pair(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<CertifiedKey, RustlsError> {
        let key = rustls::crypto::ring::default_provider().key_provider.load_private_key(key)?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match()?;
        Ok(certified)
    }

    /// The chain, the identity's own certificate first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// The last moment at which the certificate is valid.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// What rustls presents.
    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

/// The last moment at which a certificate is valid.
///
/// # Errors
/// The certificate cannot be parsed.
pub fn not_after(certificate: &CertificateDer<'_>) -> Result<Timestamp, Error> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|error| Error::PeerCertificate(error.to_string()))?;
    Ok(Timestamp(parsed.validity().not_after.timestamp().saturating_mul(1000)))
}

/// Whether a certificate is for this host name or IP address, as clients judge it (RFC 6125).
///
/// # Errors
/// The certificate cannot be parsed.
pub fn is_for_name(certificate: &CertificateDer<'_>, name: &str) -> Result<bool, Error> {
    let parsed = ParsedCertificate::try_from(certificate).map_err(|error| Error::PeerCertificate(error.to_string()))?;
    // What is no name of a host is the name of no certificate.
    Ok(ServerName::try_from(name).is_ok_and(|name| verify_server_name(&parsed, &name).is_ok()))
}
