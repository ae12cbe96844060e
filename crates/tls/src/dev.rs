//! A certificate authority for development: made once in a folder, kept between runs.
//!
//! | file | holds |
//! | --- | --- |
//! | `ca.pem`, `ca-key.pem` | the CA; clients are given `ca.pem` |
//! | `server.pem`, `server-key.pem` | the server's identity, for the names asked for |
//! | `NAME.pem`, `NAME-key.pem` | a client's identity, principal `User:CN=NAME` |
//! | `peer.pem`, `peer-key.pem` | the identity by which brokers know each other, of a CA in a folder of its own |
//!
//! What is near its end, damaged, or lacks a name is made anew; everything else stays, so that clients that trust
//! `ca.pem` go on trusting it. Keys have mode 0600. For development only: the CA's key lies beside the data.

use std::{
    collections::BTreeSet,
    fs,
    net::IpAddr,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use records::{Clock, Timestamp};
use rustls::pki_types::CertificateDer;
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer as _, X509Certificate},
    time::ASN1Time,
};

use crate::{Error, Identity, IdentityFiles, files};

/// The names that a server of this machine goes by.
pub const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

const DAY_S: i64 = 24 * 60 * 60;
/// Clocks disagree a little: certificates begin a day before they are made.
const BACKDATED_S: i64 = DAY_S;
const CA_LIFETIME_S: i64 = 10 * 365 * DAY_S;
/// The longest that common TLS libraries accept.
const LEAF_LIFETIME_S: i64 = 397 * DAY_S;
const LEAF_RENEWED_BEFORE_S: i64 = 30 * DAY_S;
/// A CA outlives every certificate that it signs.
const CA_RENEWED_BEFORE_S: i64 = LEAF_LIFETIME_S + DAY_S;

/// Where the development CA and the server's identity lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The CA's certificate: what clients need to trust.
    pub ca: PathBuf,
    /// The server's identity.
    pub server: IdentityFiles,
}

/// Makes sure that the folder holds a CA and a server identity of it that covers `names` (host names and IP addresses).
///
/// # Errors
/// The folder cannot be read or written, or a name cannot stand in a certificate.
pub fn ensure(dir: &Path, names: &[String], clock: &dyn Clock) -> Result<Files, Error> {
    let wanted: BTreeSet<String> = names.iter().map(|name| canonical(name)).collect();
    let authority = Authority::ensure(dir, clock.now())?;
    let leaf = Leaf { name: "server", names: &wanted, usages: &[ExtendedKeyUsagePurpose::ServerAuth] };
    let server = authority.ensure_leaf(&leaf)?;
    Ok(Files { ca: authority.certificate_path(), server })
}

/// Makes sure that the folder holds a client identity of its CA with the principal `User:CN=name`.
///
/// # Errors
/// As [`ensure`]; also when the name could not be a file's name.
pub fn ensure_client(dir: &Path, name: &str, clock: &dyn Clock) -> Result<IdentityFiles, Error> {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if !plain
        || name.is_empty()
        || name.starts_with('.')
        || matches!(name, "ca" | "server" | "peer" | "ca-key" | "server-key" | "peer-key")
    {
        return Err(Error::Name { name: name.into(), problem: "it names a file of the development CA".into() });
    }
    let authority = Authority::ensure(dir, clock.now())?;
    authority.ensure_leaf(&Leaf { name, names: &BTreeSet::new(), usages: &[ExtendedKeyUsagePurpose::ClientAuth] })
}

/// Makes sure that the folder holds a CA and an identity of it by which brokers know each other, on both sides of a
/// connection. The folder is to be another one than that of clients: who has a certificate of this CA is a broker.
///
/// # Errors
/// As [`ensure`].
pub fn ensure_peer(dir: &Path, names: &[String], clock: &dyn Clock) -> Result<Files, Error> {
    let wanted: BTreeSet<String> = names.iter().map(|name| canonical(name)).collect();
    let authority = Authority::ensure(dir, clock.now())?;
    let usages = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let server = authority.ensure_leaf(&Leaf { name: "peer", names: &wanted, usages: &usages })?;
    Ok(Files { ca: authority.certificate_path(), server })
}

/// The CA, ready to sign.
struct Authority<'a> {
    dir: &'a Path,
    now: Timestamp,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate that the CA signs.
struct Leaf<'a> {
    name: &'a str,
    names: &'a BTreeSet<String>,
    usages: &'a [ExtendedKeyUsagePurpose],
}

impl<'a> Authority<'a> {
    fn ensure(dir: &'a Path, now: Timestamp) -> Result<Self, Error> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|source| Error::Write {
            what: "development CA",
            path: dir.to_owned(),
            source,
        })?;
        if let Some(authority) = Self::existing(dir, now) {
            return Ok(authority);
        }
        let key = KeyPair::generate().map_err(setup)?;
        let mut params = params(now, CA_LIFETIME_S)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::OrganizationName, "Weir");
        params.distinguished_name.push(DnType::CommonName, "Weir development CA");
        let certificate = params.self_signed(&key).map_err(setup)?;
        let paths = pair_in(dir, "ca");
        files::write(&paths.key, "CA's private key", &key.serialize_pem(), files::MODE_KEY)?;
        files::write(&paths.certificate, "CA certificate", &certificate.pem(), files::MODE_CERTIFICATE)?;
        tracing::info!(ca = %paths.certificate.display(), "development CA made");
        Ok(Self { dir, now, certificate: certificate.der().clone(), issuer: Issuer::new(params, key) })
    }

    /// The CA of an earlier run, where it is whole and has long enough to live.
    fn existing(dir: &'a Path, now: Timestamp) -> Option<Self> {
        let paths = pair_in(dir, "ca");
        let identity = usable(&paths, now, CA_RENEWED_BEFORE_S)?;
        let key = KeyPair::from_pem(&fs::read_to_string(&paths.key).ok()?).ok()?;
        let certificate = identity.chain().first()?.clone();
        let issuer = Issuer::from_ca_cert_der(&certificate, key).ok()?;
        Some(Self { dir, now, certificate, issuer })
    }

    fn certificate_path(&self) -> PathBuf {
        pair_in(self.dir, "ca").certificate
    }

    fn ensure_leaf(&self, leaf: &Leaf<'_>) -> Result<IdentityFiles, Error> {
        let paths = pair_in(self.dir, leaf.name);
        let whole = usable(&paths, self.now, LEAF_RENEWED_BEFORE_S)
            .is_some_and(|identity| identity.chain().first().is_some_and(|certificate| self.covers(certificate, leaf)));
        if !whole {
            self.sign(&paths, leaf)?;
            tracing::info!(certificate = %paths.certificate.display(), "development certificate made");
        }
        Ok(paths)
    }

    /// Whether a certificate is this CA's and has every name.
    fn covers(&self, certificate: &CertificateDer<'_>, leaf: &Leaf<'_>) -> bool {
        let (Ok((_, parsed)), Ok((_, ca))) =
            (X509Certificate::from_der(certificate), X509Certificate::from_der(&self.certificate))
        else {
            return false;
        };
        let authentic = key_identifier_of_issuer(&parsed).is_some_and(|id| key_identifier(&ca) == Some(id));
        authentic && leaf.names.is_subset(&alternative_names(&parsed))
    }

    fn sign(&self, paths: &IdentityFiles, leaf: &Leaf<'_>) -> Result<(), Error> {
        let key = KeyPair::generate().map_err(setup)?;
        let mut params = params(self.now, LEAF_LIFETIME_S)?;
        for name in leaf.names {
            params.subject_alt_names.push(alternative_name(name)?);
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = leaf.usages.to_vec();
        params.use_authority_key_identifier_extension = true;
        params.distinguished_name.push(DnType::CommonName, leaf.name);
        let certificate = params.signed_by(&key, &self.issuer).map_err(setup)?;
        files::write(&paths.key, "private key", &key.serialize_pem(), files::MODE_KEY)?;
        files::write(&paths.certificate, "certificate", &certificate.pem(), files::MODE_CERTIFICATE)
    }
}

/// The pair, where it loads, belongs together, is private, and lives at least `margin_s` more.
fn usable(paths: &IdentityFiles, now: Timestamp, margin_s: i64) -> Option<Identity> {
    let identity = Identity::load(paths).ok()?;
    let mode = fs::metadata(&paths.key).ok()?.permissions().mode() & 0o777;
    if mode != files::MODE_KEY {
        fs::set_permissions(&paths.key, fs::Permissions::from_mode(files::MODE_KEY)).ok()?;
    }
    (identity.not_after().0 > now.0.saturating_add(margin_s * 1000)).then_some(identity)
}

fn params(now: Timestamp, lifetime_s: i64) -> Result<CertificateParams, Error> {
    let now_s = now.0.div_euclid(1000);
    let at = |seconds: i64| ASN1Time::from_timestamp(seconds).map(|time| time.to_datetime()).map_err(setup);
    let mut params = CertificateParams::default();
    params.not_before = at(now_s - BACKDATED_S)?;
    params.not_after = at(now_s - BACKDATED_S + lifetime_s)?;
    params.distinguished_name = DistinguishedName::new();
    Ok(params)
}

fn pair_in(dir: &Path, name: &str) -> IdentityFiles {
    IdentityFiles { certificate: dir.join(format!("{name}.pem")), key: dir.join(format!("{name}-key.pem")) }
}

/// One spelling for each name, so that `::1` and `0:0:0:0:0:0:0:1` are one.
fn canonical(name: &str) -> String {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().map_or_else(|_| bare.to_ascii_lowercase(), |address| address.to_string())
}

fn alternative_name(name: &str) -> Result<SanType, Error> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let wrong = |problem: &str| Error::Name { name: name.into(), problem: problem.into() };
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || matches!(c, ':' | '/')) {
        return Err(wrong("it is no host name"));
    }
    Ok(SanType::DnsName(name.try_into().map_err(|_| wrong("it has characters outside ASCII"))?))
}

fn alternative_names(certificate: &X509Certificate<'_>) -> BTreeSet<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return BTreeSet::new() };
    let name = |general: &GeneralName<'_>| match general {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|octets| IpAddr::from(octets).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|octets| IpAddr::from(octets).to_string()),
        },
        _ => None,
    };
    extension.value.general_names.iter().filter_map(name).collect()
}

fn key_identifier<'a>(certificate: &X509Certificate<'a>) -> Option<&'a [u8]> {
    certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    })
}

fn key_identifier_of_issuer<'a>(certificate: &X509Certificate<'a>) -> Option<&'a [u8]> {
    certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        x509_parser::extensions::ParsedExtension::AuthorityKeyIdentifier(id) => {
            id.key_identifier.as_ref().map(|id| id.0)
        }
        _ => None,
    })
}

fn setup(error: impl std::fmt::Display) -> Error {
    Error::Setup(format!("making a development certificate failed: {error}"))
}
