//! What can be wrong with certificates and keys. Every sentence names the file, what is wrong and what to do.

use std::{io, path::PathBuf};

/// Why an identity, a CA or a configuration could not be made. None of these heals by trying again with the same files.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read the {what} in {}: {source}; give the path of a PEM file that this user may read", path.display())]
    Read {
        /// What the file was to hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write the {what} to {}: {source}; make the folder writable for this user or name another", path.display())]
    Write {
        /// What the file was to hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds no such thing, or not in PEM.
    #[error("{} holds no {what}: {problem}; {remedy}", path.display())]
    Content {
        /// What the file was to hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is there instead.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The key is not the certificate's.
    #[error(
        "the private key in {} does not belong to the first certificate in {}; give the key that this certificate was made for, \
         and the server's own certificate before those of its CA",
        key.display(), certificate.display()
    )]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The system has no trusted roots.
    #[error("this system has no usable trusted CA certificates ({0}); name the CA's file instead")]
    NoSystemRoots(String),
    /// A name cannot stand in a certificate.
    #[error("`{name}` cannot be a name in a certificate: {problem}; give host names or IP addresses")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The certificate that a peer showed cannot be read.
    #[error("the peer's certificate cannot be read: {0}")]
    PeerCertificate(String),
    /// The TLS library refused; its sentence says why.
    #[error("cannot set up TLS: {0}")]
    Setup(String),
}

impl From<rustls::Error> for Error {
    fn from(error: rustls::Error) -> Self {
        Self::Setup(error.to_string())
    }
}
