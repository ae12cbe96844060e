//! How commands reach a cluster: `--to`, whom to trust, and who to be.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use client::{Client, ClientConfig, Target, TlsOptions};

use crate::environment::Environment;
use crate::exit::Failure;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an operation is tried again.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(30);

/// Where `weir dev` leaves its CA, seen from the folder it is run in.
const DEVELOPMENT_CA: &str = "weir-data/tls/ca.pem";

/// The CA of `weir dev` in the current folder, where there is one.
pub(crate) fn development_ca() -> Option<PathBuf> {
    Path::new(DEVELOPMENT_CA).canonicalize().ok()
}

/// The options that every command with a cluster at the other end has.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionArgs {
    /// The cluster: quic://HOST:PORT, kafka://HOST:PORT (plain TCP) or kafkas://HOST:PORT (TLS); more addresses may
    /// follow the first, separated by commas.
    #[arg(long, value_name = "URL", env = "WEIR_TO", default_value = "quic://localhost:9092")]
    to: String,
    /// The CA to trust, as a PEM file; for localhost the one of `weir dev` in ./weir-data is found without being named,
    /// otherwise the system's are trusted.
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// The certificate to show, as a PEM file.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The private key of the certificate, as a PEM file.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Do not verify the cluster's certificate: whoever answers is believed.
    #[arg(long)]
    insecure: bool,
}

impl ConnectionArgs {
    /// Where the cluster is.
    pub(crate) fn target(&self) -> Result<Target, Failure> {
        self.to.parse().map_err(|error: client::Error| Failure::usage(format!("--to (or WEIR_TO): {error}")))
    }

    /// Whom to trust and who to be.
    pub(crate) fn tls(&self, target: &Target) -> TlsOptions {
        let this_machine = target.addresses.iter().all(|address| is_this_machine(&address.host));
        let development = if this_machine && !self.insecure { development_ca() } else { None };
        TlsOptions {
            ca: self.ca.clone().or(development),
            cert: self.cert.clone(),
            key: self.key.clone(),
            insecure: self.insecure,
        }
    }

    /// A client that has reached the cluster: whoever does not answer is found out at once, and not after retries.
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        let target = self.target()?;
        let tls = self.tls(&target);
        let mut config = ClientConfig::new(target, Environment::system().clock).tls(tls).client_id("weir");
        config.connect_timeout = CONNECT_TIMEOUT;
        config.operation_timeout = OPERATION_TIMEOUT;
        let client = Client::new(config)?;
        client.ping().await?;
        Ok(client)
    }
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::{ConnectionArgs, is_this_machine};

    fn args(to: &str) -> ConnectionArgs {
        ConnectionArgs { to: to.to_owned(), ca: None, cert: None, key: None, insecure: false }
    }

    #[test]
    fn a_wrong_url_is_wrong_usage() {
        let failure = args("http://x").target().unwrap_err();
        assert_eq!(failure.exit, crate::exit::Exit::Usage);
        assert!(format!("{:#}", failure.error.unwrap()).starts_with("--to (or WEIR_TO): "));
    }

    #[test]
    fn only_this_machine_is_trusted_with_the_development_ca() {
        for host in ["localhost", "127.0.0.1", "::1", "127.8.8.8"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["broker.example", "10.0.0.1", "localhost.example"] {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[test]
    fn verification_is_off_only_when_asked() {
        let target = args("quic://broker.example").target().unwrap();
        assert!(!args("").tls(&target).insecure);
        assert!(ConnectionArgs { insecure: true, ..args("") }.tls(&target).insecure);
    }
}
