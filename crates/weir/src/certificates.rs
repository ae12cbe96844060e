//! Looks at the certificate files from time to time and takes what is new, so that a renewed certificate needs no
//! restart. Files that cannot be used leave what is in use as it is.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// What tells one state of a file from another: when it was written, and its size. Nothing when it cannot be looked at.
type Seen = Vec<Option<(SystemTime, u64)>>;

/// Reloads the servers' files when they change, until the stop.
pub(crate) async fn watch(servers: Vec<Arc<tls::Server>>, interval: Duration, stop: CancellationToken) {
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
                reload(server);
            }
        }
    }
}

fn reload(server: &tls::Server) {
    let certificate = server.settings().identity.certificate.display();
    let before = server.identity();
    match server.reload() {
        Ok(()) if server.identity().chain() == before.chain() => {}
        Ok(()) => tracing::info!(%certificate, valid_until_ms = server.not_after().0, "certificate reloaded"),
        Err(error) => tracing::warn!(%certificate, %error, "a changed certificate cannot be used; the old one stays"),
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

fn seen(file: &PathBuf) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio_util::sync::CancellationToken;

    use super::watch;
    use crate::environment::SystemClock;

    #[tokio::test]
    async fn a_renewed_certificate_is_taken_and_a_broken_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let files = tls::dev::ensure(dir.path(), &["one".to_owned()], &SystemClock).unwrap();
        let settings = tls::ServerSettings { identity: files.server.clone(), client_auth: tls::ClientAuth::None };
        let server = tls::Server::load(settings).unwrap();
        let first = server.identity().chain().to_vec();
        let stop = CancellationToken::new();
        let watching = tokio::spawn(watch(vec![server.clone()], Duration::from_millis(5), stop.clone()));

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
