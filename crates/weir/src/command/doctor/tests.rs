//! A whole configuration, examined: each check says what it must where something is wrong.

use std::net::TcpListener;
use std::path::Path;

use super::*;
use crate::command::config::parse;

fn config(folder: &Path, listeners: &str) -> Config {
    let tls = tls::dev::ensure(&folder.join("tls"), &["localhost".to_owned()], &crate::environment::SystemClock)
        .expect("a folder that can be written");
    let text = format!(
        "version: 1\nbroker: {{name: b}}\nstore: {{url: 'memory://'}}\nstaging: {{dir: '{}'}}\nlisteners: {listeners}\n\
         tls: {{certificate_file: '{}', key_file: '{}'}}\n",
        folder.join("staging").display(),
        tls.server.certificate.display(),
        tls.server.key.display(),
    );
    parse("test", &text, &[]).expect("a configuration").config
}

async fn verdicts(config: &Config) -> Vec<(String, Verdict)> {
    let findings = examine(config, &Environment::system()).await;
    for finding in &findings {
        let needs_remedy = matches!(finding.verdict, Verdict::Warning | Verdict::Failed);
        assert_eq!(finding.remedy.is_some(), needs_remedy, "{finding:?}");
    }
    findings.into_iter().map(|finding| (finding.check, finding.verdict)).collect()
}

fn verdict(of: &str, all: &[(String, Verdict)]) -> Verdict {
    all.iter().find(|(check, _)| check == of).unwrap_or_else(|| panic!("{of} is not in {all:?}")).1
}

#[tokio::test]
async fn everything_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let quic = "[{name: q, protocol: quic, address: '127.0.0.1:0', advertised: 'localhost:9092'}]";
    let found = verdicts(&config(folder.path(), quic)).await;
    assert_eq!(verdict("store", &found), Verdict::Warning, "memory is for tests");
    assert_eq!(verdict("bucket", &found), Verdict::Unknown);
    assert_eq!(verdict("clock", &found), Verdict::Unknown);
    assert_eq!(verdict("staging disk", &found), Verdict::Ok);
    verdict("staging space", &found);
    assert_eq!(verdict("certificate", &found), Verdict::Ok);
    assert_eq!(verdict("certificate names", &found), Verdict::Ok);
    assert_eq!(verdict("listener q", &found), Verdict::Ok);
    assert!(!folder.path().join("staging").exists(), "nothing is changed");
}

#[tokio::test]
async fn what_is_wrong_fails() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listeners = format!(
        "[{{name: k, protocol: kafka, tls: true, address: '{}', advertised: 'broker.example.org:9092'}}]",
        taken.local_addr().unwrap()
    );
    let mut config = config(folder.path(), &listeners);
    std::fs::write(folder.path().join("file"), "").unwrap();
    let found = verdicts(&config).await;
    assert_eq!(verdict("certificate names", &found), Verdict::Failed);
    assert_eq!(verdict("listener k", &found), Verdict::Failed);

    // A broker that runs on this folder is who holds the port.
    let lock = Lock::take(config.lock_path()).unwrap();
    assert_eq!(verdict("listener k", &verdicts(&config).await), Verdict::Ok);
    drop(lock);

    std::fs::write(config.tls.key_file.as_ref().unwrap(), "no key").unwrap();
    config.store.url = "s3://bucket".to_owned();
    config.store.region = Some("eu-central-1".to_owned());
    config.store.access_key_id = Some("id".to_owned());
    let found = verdicts(&config).await;
    assert_eq!(verdict("certificate", &found), Verdict::Failed);
    assert_eq!(verdict("store", &found), Verdict::Failed, "a key without its secret");
}
