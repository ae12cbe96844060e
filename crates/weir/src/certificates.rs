//! Looks at the certificate files from time to time and takes what is new, so that a renewed certificate needs no
//! restart. Files that cannot be used leave what is in use as it is.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// What tells one state of a file from another: which file it is behind all links (Kubernetes swaps a link), when it was
/// written, and its size. Nothing when it cannot be looked at.
type Seen = Vec<Option<(u64, u64, SystemTime, u64)>>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByFile {
    file: String,
}

/// What is told of the certificates. A clone counts into the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    not_after: Family<ByFile, Gauge>,
    reloads: Family<ByFile, Counter>,
    failures: Family<ByFile, Counter>,
}

impl Metrics {
    /// Makes them part of what `/metrics` shows.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "When the certificate in use ends, in seconds since 1970";
        registry.register("weir_certificate_not_after_seconds", help, self.not_after.clone());
        registry.register("weir_certificate_reloads", "Times a new certificate was taken", self.reloads.clone());
        let help = "Times that changed files could not be used and the old certificate stayed";
        registry.register("weir_certificate_reload_failures", help, self.failures.clone());
    }

    fn in_use(&self, server: &tls::Server) {
        self.not_after.get_or_create(&by_file(server)).set(server.not_after().0 / 1000);
    }
}

fn by_file(server: &tls::Server) -> ByFile {
    ByFile { file: server.settings().identity.certificate.display().to_string() }
}

/// Reloads the servers' files when they change, until the stop.
pub(crate) async fn watch(
    servers: Vec<Arc<tls::Server>>,
    interval: Duration,
    metrics: Metrics,
    stop: CancellationToken,
) {
    for server in &servers {
        metrics.in_use(server);
        // Shown before the first failure, so that an alert can be written on it.
        drop(metrics.failures.get_or_create(&by_file(server)));
    }
    // Nothing is taken as seen: what changed between the loading of the files and now is found by the first look.
    let mut watched: Vec<(Arc<tls::Server>, Option<Seen>)> = servers.into_iter().map(|server| (server, None)).collect();
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        for (server, seen) in &mut watched {
            let now = Some(look(server));
            if now != *seen {
                // Also after a failure: the files are tried again when they change again, as they do while they are written.
                *seen = now;
                reload(server, &metrics);
            }
        }
    }
}

fn reload(server: &tls::Server, metrics: &Metrics) {
    let certificate = server.settings().identity.certificate.display();
    let before = server.identity();
    match server.reload() {
        Ok(()) if server.identity().chain() == before.chain() => {}
        Ok(()) => {
            metrics.in_use(server);
            metrics.reloads.get_or_create(&by_file(server)).inc();
            tracing::info!(%certificate, valid_until_ms = server.not_after().0, "certificate reloaded");
        }
        Err(error) => {
            metrics.failures.get_or_create(&by_file(server)).inc();
            tracing::warn!(%certificate, %error, "a changed certificate cannot be used; the old one stays");
        }
    }
}

fn look(server: &tls::Server) -> Seen {
    let settings = server.settings();
    let mut files = vec![&settings.identity.certificate, &settings.identity.key];
    match &settings.client_auth {
        tls::ClientAuth::None => {}
        tls::ClientAuth::Optional { ca } | tls::ClientAuth::Required { ca } => files.push(ca),
    }
    files.into_iter().map(seen).collect()
}

fn seen(file: &PathBuf) -> Option<(u64, u64, SystemTime, u64)> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.modified().ok()?, metadata.len()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio_util::sync::CancellationToken;

    use super::{Metrics, watch};
    use crate::environment::SystemClock;

    #[tokio::test]
    async fn a_renewed_certificate_is_taken_and_a_broken_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let files = tls::dev::ensure(dir.path(), &["one".to_owned()], &SystemClock).unwrap();
        let settings = tls::ServerSettings { identity: files.server.clone(), client_auth: tls::ClientAuth::None };
        let server = tls::Server::load(settings).unwrap();
        let first = server.identity().chain().to_vec();
        let stop = CancellationToken::new();
        let metrics = Metrics::default();
        let watching = watch(vec![server.clone()], Duration::from_millis(5), metrics, stop.clone());
        let watching = tokio::spawn(watching);

        std::fs::write(&files.server.certificate, "no certificate at all").unwrap();
        assert_eq!(server.identity().chain(), first);

        tls::dev::ensure(dir.path(), &["two".to_owned()], &SystemClock).unwrap();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while server.identity().chain() == first {
            assert!(tokio::time::Instant::now() < deadline, "the new certificate was not taken");
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stop.cancel();
        watching.await.unwrap();
    }
}
