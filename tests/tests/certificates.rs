//! Certificates that are renewed under a running broker, as Kubernetes does it: a folder's files are links through
//! `..data`, and that link is swapped.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConnection, StreamOwned};
use weir_tests::attack::{WITHIN, metric};
use weir_tests::broker::{Options, Weir};
use weir_tests::clock::{Deadline, WallClock};

/// A pair in a new folder beside the others: the certificate of one CA, and the key of the same or of another.
fn publish(secret: &Path, name: &str, certificate: &tls::dev::Files, key: &tls::dev::Files) -> Result<()> {
    let folder = secret.join(format!("..{name}"));
    fs::create_dir(&folder)?;
    fs::copy(&certificate.server.certificate, folder.join("tls.crt"))?;
    fs::copy(&key.server.key, folder.join("tls.key"))?;
    // The swap is one rename.
    symlink(format!("..{name}"), secret.join("..data_tmp"))?;
    fs::rename(secret.join("..data_tmp"), secret.join("..data"))?;
    Ok(())
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn connect(weir: &Weir) -> Result<Tls> {
    let settings = tls::ClientSettings { roots: tls::Roots::Insecure, identity: None };
    let name = rustls::pki_types::ServerName::try_from("localhost")?;
    let client = ClientConnection::new(tls::client_config(&settings)?, name)?;
    let stream = TcpStream::connect(weir.tls())?;
    stream.set_read_timeout(Some(WITHIN))?;
    let mut stream = StreamOwned::new(client, stream);
    ask(&mut stream)?;
    Ok(stream)
}

/// ApiVersions, version 0, and that it is answered.
fn ask(stream: &mut Tls) -> Result<()> {
    stream.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff])?;
    let mut head = [0; 8];
    stream.read_exact(&mut head)?;
    let (length, number) = head.split_at(4);
    ensure!(number == [0, 0, 0, 7]);
    let mut rest = vec![0; u32::from_be_bytes(length.try_into()?) as usize - 4];
    Ok(stream.read_exact(&mut rest)?)
}

fn shown(stream: &Tls) -> Result<CertificateDer<'static>> {
    let chain = stream.conn.peer_certificates().context("no certificate")?;
    Ok(chain.first().context("an empty chain")?.clone().into_owned())
}

/// The certificate that QUIC shows now.
async fn shown_over_quic(weir: &Weir) -> Result<CertificateDer<'static>> {
    let settings = tls::ClientSettings { roots: tls::Roots::Insecure, identity: None };
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse()?)?;
    let config = tls::quic_client_config(&settings)?;
    let connection = endpoint.connect_with(config, weir.bootstrap().parse()?, "localhost")?.await?;
    let chain = connection.peer_identity().context("no certificate")?;
    let chain = chain.downcast::<Vec<CertificateDer<'static>>>().map_err(|_| anyhow::anyhow!("no chain"))?;
    Ok(chain.first().context("an empty chain")?.clone())
}

#[test]
fn a_swapped_link_renews_the_certificate_and_a_broken_pair_does_not() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let made = |name: &str| tls::dev::ensure(&folder.path().join(name), &["localhost".to_owned()], &WallClock);
    let (first, second) = (made("one")?, made("two")?);
    let secret = folder.path().join("secret");
    fs::create_dir(&secret)?;
    publish(&secret, "2026_01", &first, &first)?;
    for file in ["tls.crt", "tls.key"] {
        symlink(Path::new("..data").join(file), secret.join(file))?;
    }
    let sets = vec![
        format!("tls.certificate_file={}", secret.join("tls.crt").display()),
        format!("tls.key_file={}", secret.join("tls.key").display()),
        "tls.reload_interval_ms=100".to_owned(),
    ];
    let weir = Weir::start_with(Options { sets, ..Options::default() })?;
    let runtime = Arc::new(tokio::runtime::Builder::new_current_thread().enable_all().build()?);
    let ends = |files: &tls::dev::Files| -> Result<f64> {
        Ok((tls::Identity::load(&files.server)?.not_after().0 / 1000) as f64)
    };
    let chain = |files: &tls::dev::Files| -> Result<CertificateDer<'static>> {
        Ok(tls::Identity::load(&files.server)?.chain()[0].clone())
    };
    let (old, new) = (chain(&first)?, chain(&second)?);
    let mut stays = connect(&weir)?;
    ensure!(shown(&stays)? == old && runtime.block_on(shown_over_quic(&weir))? == old);

    publish(&secret, "2026_02", &second, &second)?;
    Deadline::after(WITHIN).wait("the new certificate is shown", || {
        let both = shown(&connect(&weir)?)? == new && runtime.block_on(shown_over_quic(&weir))? == new;
        Ok(both.then_some(()))
    })?;
    ask(&mut stays).context("a connection that stood was dropped")?;
    // Two listeners (TLS and QUIC) tell of the one file.
    let not_after = metric(&weir, "weir_certificate_not_after_seconds", "tls.crt")?;
    ensure!((not_after - ends(&second)?).abs() < 1.0, "{not_after}");
    ensure!(metric(&weir, "weir_certificate_reload_failures_total", "")? < 1.0);

    // The new certificate with the old key.
    publish(&secret, "2026_03", &first, &second)?;
    Deadline::after(WITHIN).wait("the failure is shown", || {
        Ok((metric(&weir, "weir_certificate_reload_failures_total", "tls.crt")? >= 2.0).then_some(()))
    })?;
    ensure!(shown(&connect(&weir)?)? == new && runtime.block_on(shown_over_quic(&weir))? == new);
    let log = weir.log()?;
    ensure!(log.contains("the old one stays") && log.contains("does not belong"), "{log}");
    ask(&mut stays)?;

    // And a good one heals it.
    publish(&secret, "2026_04", &first, &first)?;
    Deadline::after(WITHIN)
        .wait("the good certificate is shown", || Ok((shown(&connect(&weir)?)? == old).then_some(())))?;
    ask(&mut stays)?;
    weir.finish()
}
