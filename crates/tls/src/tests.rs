//! Handshakes run in memory, so no test touches the network.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use proptest::prelude::*;
use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};
use records::{Clock, Timestamp};
use rustls::{ClientConnection, ProtocolVersion, ServerConnection, pki_types::CertificateDer};

use crate::{
    ClientAuth, ClientSettings, Error, Identity, IdentityFiles, Roots, Server, ServerSettings, client_config, dev,
    files, principal_of, provider, quic_client_config,
};

const YEAR_MS: i64 = 365 * 24 * 60 * 60 * 1000;

/// rustls itself looks at the system's clock, so the tests begin now and move from there.
struct Moving(AtomicI64);

impl Moving {
    #[allow(clippy::disallowed_methods, clippy::cast_possible_truncation)]
    fn from_now() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Self(AtomicI64::new(now.as_millis() as i64))
    }

    fn advance(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for Moving {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

fn local_names() -> Vec<String> {
    dev::LOCAL_NAMES.map(String::from).to_vec()
}

fn server(files: &dev::Files, client_auth: ClientAuth) -> Arc<Server> {
    Server::load(ServerSettings { identity: files.server.clone(), client_auth }).unwrap()
}

fn client(ca: &Path, identity: Option<IdentityFiles>) -> ClientSettings {
    ClientSettings { roots: Roots::File(ca.to_owned()), identity }
}

/// Runs a handshake in memory; gives both ends, or the error of the end that refused.
fn handshake(
    server: &Server,
    client: &ClientSettings,
    name: &str,
    version: Option<&'static rustls::SupportedProtocolVersion>,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let mut config = client_config(client).unwrap();
    if let Some(version) = version {
        // The product always offers both versions; an older client is made here.
        let Roots::File(ca) = &client.roots else { panic!("the old client needs a CA file") };
        let roots = files::read_roots(ca).unwrap();
        let old = rustls::ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[version]).unwrap();
        config = Arc::new(old.with_root_certificates(roots).with_no_client_auth());
    }
    let mut client = ClientConnection::new(config, name.to_owned().try_into().unwrap()).unwrap();
    let mut server = ServerConnection::new(server.tcp()).unwrap();
    let mut wire = Vec::new();
    while client.is_handshaking() || server.is_handshaking() || client.wants_write() || server.wants_write() {
        wire.clear();
        client.write_tls(&mut wire).unwrap();
        let mut bytes = wire.as_slice();
        while !bytes.is_empty() {
            server.read_tls(&mut bytes).unwrap();
            server.process_new_packets()?;
        }
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        let mut bytes = wire.as_slice();
        while !bytes.is_empty() {
            client.read_tls(&mut bytes).unwrap();
            client.process_new_packets()?;
        }
    }
    Ok((client, server))
}

#[test]
fn both_versions_of_tls_are_spoken() {
    let dir = tempfile::tempdir().unwrap();
    let files = dev::ensure(dir.path(), &local_names(), &Moving::from_now()).unwrap();
    let server = server(&files, ClientAuth::None);
    let trusting = client(&files.ca, None);
    let (newest, _) = handshake(&server, &trusting, "localhost", None).unwrap();
    assert_eq!(newest.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let (old, _) = handshake(&server, &trusting, "localhost", Some(&rustls::version::TLS12)).unwrap();
    assert_eq!(old.protocol_version(), Some(ProtocolVersion::TLSv1_2));
    quic_client_config(&trusting).unwrap();
}

#[test]
fn the_development_certificate_covers_exactly_its_names() {
    let dir = tempfile::tempdir().unwrap();
    let mut names = local_names();
    names.push("Broker-0.example".into());
    let files = dev::ensure(dir.path(), &names, &Moving::from_now()).unwrap();
    let server = server(&files, ClientAuth::None);
    for name in ["localhost", "127.0.0.1", "::1", "broker-0.example"] {
        handshake(&server, &client(&files.ca, None), name, None).unwrap();
    }
    handshake(&server, &client(&files.ca, None), "other.example", None).unwrap_err();
}

#[test]
fn a_client_that_does_not_know_the_ca_refuses_unless_told_insecure() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let files = dev::ensure(dir.path(), &local_names(), &Moving::from_now()).unwrap();
    let others = dev::ensure(other.path(), &local_names(), &Moving::from_now()).unwrap();
    let server = server(&files, ClientAuth::None);
    handshake(&server, &client(&others.ca, None), "localhost", None).unwrap_err();
    let insecure = ClientSettings { roots: Roots::Insecure, identity: None };
    handshake(&server, &insecure, "localhost", None).unwrap();
}

#[test]
fn mutual_tls_names_the_client() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let clock = Moving::from_now();
    let files = dev::ensure(dir.path(), &local_names(), &clock).unwrap();
    let alice = dev::ensure_client(dir.path(), "alice", &clock).unwrap();
    dev::ensure(other.path(), &local_names(), &clock).unwrap();
    let mallory = dev::ensure_client(other.path(), "mallory", &clock).unwrap();

    let required = server(&files, ClientAuth::Required { ca: files.ca.clone() });
    let (_, end) = handshake(&required, &client(&files.ca, Some(alice.clone())), "localhost", None).unwrap();
    assert_eq!(principal_of(&end.peer_certificates().unwrap()[0]).unwrap(), "User:CN=alice");
    handshake(&required, &client(&files.ca, None), "localhost", None).unwrap_err();
    handshake(&required, &client(&files.ca, Some(mallory.clone())), "localhost", None).unwrap_err();

    let optional = server(&files, ClientAuth::Optional { ca: files.ca.clone() });
    let (_, end) = handshake(&optional, &client(&files.ca, None), "localhost", None).unwrap();
    assert!(end.peer_certificates().is_none());
    let (_, end) = handshake(&optional, &client(&files.ca, Some(alice)), "localhost", None).unwrap();
    assert!(end.peer_certificates().is_some());
    handshake(&optional, &client(&files.ca, Some(mallory)), "localhost", None).unwrap_err();
}

#[test]
fn the_development_ca_is_kept_and_its_keys_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Moving::from_now();
    let files = dev::ensure(dir.path(), &local_names(), &clock).unwrap();
    let client = dev::ensure_client(dir.path(), "alice", &clock).unwrap();
    let all = [&files.ca, &files.server.certificate, &files.server.key, &client.certificate, &client.key];
    let before = all.map(|path| fs::read(path).unwrap());
    fs::set_permissions(&files.server.key, fs::Permissions::from_mode(0o644)).unwrap();

    assert_eq!(dev::ensure(dir.path(), &local_names(), &clock).unwrap(), files);
    assert_eq!(dev::ensure_client(dir.path(), "alice", &clock).unwrap(), client);
    assert_eq!(all.map(|path| fs::read(path).unwrap()), before);
    for key in [&files.server.key, &client.key, &dir.path().join("ca-key.pem")] {
        assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600, "{}", key.display());
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 6, "nothing temporary is left");
}

#[test]
fn the_server_certificate_is_renewed_near_its_end_or_for_a_new_name_under_the_same_ca() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Moving::from_now();
    let files = dev::ensure(dir.path(), &local_names(), &clock).unwrap();
    let (ca, first) = (fs::read(&files.ca).unwrap(), fs::read(&files.server.certificate).unwrap());

    clock.advance(YEAR_MS + 5 * YEAR_MS / 365);
    dev::ensure(dir.path(), &local_names(), &clock).unwrap();
    let second = fs::read(&files.server.certificate).unwrap();
    assert!(second != first, "near its end");
    assert!(Identity::load(&files.server).unwrap().not_after().0 > clock.now().0 + YEAR_MS);

    let mut names = local_names();
    names.push("10.1.2.3".into());
    dev::ensure(dir.path(), &names, &clock).unwrap();
    assert!(fs::read(&files.server.certificate).unwrap() != second, "another name");
    assert!(fs::read(&files.ca).unwrap() == ca, "clients go on trusting the CA");

    clock.advance(9 * YEAR_MS);
    dev::ensure(dir.path(), &names, &clock).unwrap();
    assert!(fs::read(&files.ca).unwrap() != ca, "a CA near its end is replaced");
}

#[test]
fn what_the_ca_signed_before_it_was_replaced_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Moving::from_now();
    let files = dev::ensure(dir.path(), &local_names(), &clock).unwrap();
    fs::write(dir.path().join("ca-key.pem"), "damaged").unwrap();
    dev::ensure(dir.path(), &local_names(), &clock).unwrap();
    let server = server(&files, ClientAuth::None);
    handshake(&server, &client(&files.ca, None), "localhost", None).unwrap();
}

#[test]
fn the_development_ca_does_not_let_a_client_name_its_files() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["../x", "ca", "server", "", ".hidden", "a/b"] {
        let error = dev::ensure_client(dir.path(), name, &Moving::from_now()).unwrap_err();
        assert!(matches!(error, Error::Name { .. }), "{name}: {error}");
    }
    let error = dev::ensure(dir.path(), &["with space".into()], &Moving::from_now()).unwrap_err();
    assert!(error.to_string().starts_with("`with space` cannot be a name in a certificate"), "{error}");
}

#[test]
fn a_reload_takes_the_new_files_or_keeps_the_old() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Moving::from_now();
    let files = dev::ensure(dir.path(), &local_names(), &clock).unwrap();
    let server = server(&files, ClientAuth::None);
    let before = server.not_after();
    let kept = fs::read(&files.server.key).unwrap();

    fs::write(&files.server.key, "half a").unwrap();
    server.reload().unwrap_err();
    assert_eq!(server.not_after(), before);
    handshake(&server, &client(&files.ca, None), "localhost", None).unwrap();

    fs::write(&files.server.key, kept).unwrap();
    clock.advance(YEAR_MS + 5 * YEAR_MS / 365);
    dev::ensure(dir.path(), &local_names(), &clock).unwrap();
    server.reload().unwrap();
    assert!(server.not_after() > before);
}

#[test]
fn errors_name_the_file_and_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Moving::from_now();
    let files = dev::ensure(dir.path(), &local_names(), &clock).unwrap();
    let client = dev::ensure_client(dir.path(), "alice", &clock).unwrap();
    let path = |name: &str, content: &str| {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let load = |certificate: &Path, key: &Path| {
        let files = IdentityFiles { certificate: certificate.to_owned(), key: key.to_owned() };
        Identity::load(&files).unwrap_err().to_string()
    };
    let (certificate, key) = (&files.server.certificate, &files.server.key);

    let error = load(&dir.path().join("absent.pem"), key);
    assert!(error.contains("absent.pem") && error.contains("No such file"), "{error}");
    let error = load(key, key);
    assert!(error.contains("server-key.pem") && error.contains("no certificate is in it"), "{error}");
    let error = load(certificate, certificate);
    assert!(error.contains("server.pem") && error.contains("no key is in it"), "{error}");
    let error = load(certificate, &client.key);
    assert!(error.contains("alice-key.pem") && error.contains("does not belong"), "{error}");
    let locked =
        path("locked.pem", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    let error = load(certificate, &locked);
    assert!(error.contains("encrypted with a password"), "{error}");
    let broken = path("broken.pem", "-----BEGIN PRIVATE KEY-----\n!!secret!!\n-----END PRIVATE KEY-----\n");
    let error = load(certificate, &broken);
    assert!(error.contains("broken.pem") && !error.contains("secret"), "{error}");
    let error = client_config(&ClientSettings { roots: Roots::File(key.clone()), identity: None }).unwrap_err();
    assert!(error.to_string().contains("no CA certificate"), "{error}");
}

/// A self-signed certificate with this subject, in the order it stands in the certificate.
fn certificate(subject: Vec<(DnType, DnValue)>) -> CertificateDer<'static> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in subject {
        params.distinguished_name.push(kind, value);
    }
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
}

fn utf8(text: &str) -> DnValue {
    DnValue::Utf8String(text.into())
}

#[test]
fn principals_are_spelt_as_kafka_spells_them() {
    let principal = |subject| principal_of(&certificate(subject)).unwrap();
    let usual = vec![
        (DnType::CountryName, DnValue::PrintableString("CH".try_into().unwrap())),
        (DnType::StateOrProvinceName, utf8("Zürich")),
        (DnType::OrganizationName, utf8("Example, Inc.")),
        (DnType::OrganizationalUnitName, utf8("A+B")),
        (DnType::CommonName, utf8("alice")),
    ];
    assert_eq!(principal(usual), "User:CN=alice,OU=A\\+B,O=Example\\, Inc.,ST=Zürich,C=CH");
    assert_eq!(principal(vec![(DnType::CommonName, utf8(" #x; "))]), "User:CN=\\ #x\\;\\ ");
    assert_eq!(principal(vec![(DnType::CommonName, utf8("#1"))]), "User:CN=\\#1");
    assert_eq!(principal(vec![(DnType::CommonName, utf8("a\"b\\c<d>"))]), "User:CN=a\\\"b\\\\c\\<d\\>");
    assert_eq!(principal(vec![(DnType::CommonName, DnValue::BmpString("é€".try_into().unwrap()))]), "User:CN=é€");
    assert_eq!(principal(vec![]), "User:");
    // An e-mail address has no keyword in RFC 2253: number and DER.
    let mail = DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]);
    let mail = vec![(mail, DnValue::Ia5String("a@b".try_into().unwrap())), (DnType::CommonName, utf8("a"))];
    assert_eq!(principal(mail), "User:CN=a,1.2.840.113549.1.9.1=#1603614062");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Two different names never become one principal.
    #[test]
    fn different_names_are_different_principals(
        a in proptest::collection::vec("[ -~é]{1,6}", 1..3), b in proptest::collection::vec("[ -~é]{1,6}", 1..3)
    ) {
        let kinds = [DnType::CommonName, DnType::OrganizationName];
        let named = |values: &[String]| {
            let subject = kinds.iter().cloned().zip(values.iter().map(|value| utf8(value))).collect();
            principal_of(&certificate(subject)).unwrap()
        };
        prop_assert_eq!(named(&a) == named(&b), a == b);
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let certificate = CertificateDer::from(bytes);
        prop_assert!(principal_of(&certificate).is_err());
        prop_assert!(crate::not_after(&certificate).is_err());
    }
}
