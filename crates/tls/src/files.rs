//! PEM files in and out: reading with errors that help, writing so that a crash leaves the old file or the new one, and
//! nobody else ever sees a key.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{Error as PemError, PemObject as _},
    },
};

use crate::Error;

/// Keys are for their owner alone.
pub(crate) const MODE_KEY: u32 = 0o600;
/// Certificates are for everybody.
pub(crate) const MODE_CERTIFICATE: u32 = 0o644;

fn read(path: &Path, what: &'static str) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Read { what, path: path.to_owned(), source })
}

/// All certificates of a PEM file; at least one.
pub(crate) fn read_certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let remedy = "it must be PEM, with one or more `BEGIN CERTIFICATE` blocks";
    let content = |problem: String| Error::Content { what, path: path.to_owned(), problem, remedy };
    let certificates = CertificateDer::pem_slice_iter(&read(path, what)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| content(error.to_string()))?;
    if certificates.is_empty() {
        return Err(content("no certificate is in it".into()));
    }
    Ok(certificates)
}

/// The first private key of a PEM file.
pub(crate) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let what = "private key";
    let bytes = read(path, what)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        let encrypted = bytes.windows(9).any(|window| window == b"ENCRYPTED");
        let (problem, remedy) = match error {
            PemError::NoItemsFound if encrypted => {
                ("the key is encrypted with a password".into(), "store it without one, readable by this user only")
            }
            PemError::NoItemsFound => {
                ("no key is in it".into(), "it must be PEM, with a `BEGIN PRIVATE KEY` block (PKCS#8, SEC1 or PKCS#1)")
            }
            // The text of other errors may quote the file; a key must not reach a log.
            PemError::Base64Decode(_) | PemError::IllegalSectionStart { .. } | PemError::MissingSectionEnd { .. } => {
                ("it is not well-formed PEM".into(), "copy the file again, whole")
            }
            other => (other.to_string(), "it must be PEM, with a `BEGIN PRIVATE KEY` block"),
        };
        Error::Content { what, path: path.to_owned(), problem, remedy }
    })
}

/// The certificates of a PEM file as trust anchors.
pub(crate) fn read_roots(path: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path, "CA certificate")? {
        roots.add(certificate).map_err(|error| Error::Content {
            what: "CA certificate",
            path: path.to_owned(),
            problem: error.to_string(),
            remedy: "every certificate in it must be an X.509 certificate of a CA",
        })?;
    }
    Ok(roots)
}

/// Writes a whole file beside its place and renames it there.
pub(crate) fn write(path: &Path, what: &'static str, text: &str, mode: u32) -> Result<(), Error> {
    let temporary = temporary_for(path);
    let attempt = || -> io::Result<()> {
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    attempt().map_err(|source| Error::Write { what, path: path.to_owned(), source })
}

/// A name that no other process writes at the same time.
fn temporary_for(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    path.with_file_name(name)
}
