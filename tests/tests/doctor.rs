//! `weir doctor` and `weir dev --create-bucket` on real stores.

use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use weir_tests::broker::{Options, Weir};
use weir_tests::connection::Connection;
use weir_tests::places;
use weir_tests::process::run_to_end;
use weir_tests::stores::{Kind, S3};
use weir_tests::topic::produce;

/// Of each check its verdict, and all that is said of it.
type Findings = HashMap<String, (String, String)>;

/// Exit code and findings.
fn doctor(weir: &Weir, sets: &[&str]) -> Result<(Option<i32>, Findings)> {
    let mut command = Command::new(places::weir()?);
    command.args(["doctor", "-o", "json", "--config"]).arg(weir.config()).envs(S3::credentials());
    for set in sets {
        command.args(["--set", set]);
    }
    let (status, said) = run_to_end(&mut command, Duration::from_secs(120))?;
    // What goes to standard error may stand before and after it.
    let start = said.find("[\n").with_context(|| format!("no list: {said}"))?;
    let mut documents = serde_json::Deserializer::from_str(&said[start..]).into_iter::<Value>();
    let findings = documents.next().with_context(|| format!("no document: {said}"))?.with_context(|| said.clone())?;
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let findings = findings.as_array().context("a list")?.iter().map(|finding| {
        let words = format!("{} {}", text(finding, "found"), text(finding, "remedy"));
        (text(finding, "check"), (text(finding, "verdict"), words))
    });
    Ok((status.code(), findings.collect()))
}

/// A broker in a bucket that was not there, and a doctor who looks at both.
fn is_made_and_examined(kind: Kind) -> Result<()> {
    let store = S3::start_own(kind)?;
    let mut weir = Weir::start_with(Options {
        store: Some(store.missing_bucket()),
        arguments: vec!["--create-bucket".to_owned()],
        environment: S3::credentials(),
        ..Options::default()
    })?;
    let mut connection = Connection::open(&weir.bootstrap())?;
    connection.create_topic("made", 1)?;
    produce(&mut connection, "made", "value")?;

    let (code, found) = doctor(&weir, &["staging.bytes_max=16777216", "staging.segment_bytes=1048576"])?;
    ensure!(code == Some(0), "{code:?} {found:?}");
    for check in
        ["store", "clock", "staging disk", "certificate", "certificate names", "listener kafka", "listener quic"]
    {
        let (verdict, _) = found.get(check).with_context(|| format!("{check} is not in {found:?}"))?;
        ensure!(verdict == "ok", "{check}: {found:?}");
    }
    for setting in ["versioning", "lifecycle", "encryption", "object lock", "public access"] {
        let check = format!("bucket {setting}");
        ensure!(found.contains_key(&check), "{check} is not in {found:?}");
    }
    let (_, listener) = &found["listener kafka"];
    ensure!(listener.contains("the broker runs"), "{listener}");

    // A second start finds the bucket, and what is in it.
    weir.stop()?;
    weir.restart()?;
    weir.stop()?;
    let (code, found) = doctor(&weir, &["store.access_key_id=weir", "store.secret_access_key.env=HOME"])?;
    ensure!(code == Some(1), "{code:?} {found:?}");
    ensure!(found["store"].0 == "failed" && found["store"].1.contains("Check the credentials"), "{found:?}");
    ensure!(found["listener kafka"].1.contains("free"), "{found:?}");
    weir.finish()
}

#[test]
fn a_bucket_of_minio_is_made_and_examined() -> Result<()> {
    is_made_and_examined(Kind::MinIo)
}

#[test]
fn a_bucket_of_versitygw_is_made_and_examined() -> Result<()> {
    is_made_and_examined(Kind::VersityGw)
}

#[test]
fn a_store_that_lets_several_writers_win_fails_the_examination() -> Result<()> {
    let good = S3::start(Kind::MinIo)?;
    let (url, environment) = (Some(good.new_store()), S3::credentials());
    let weir = Weir::start_with(Options { store: url, environment, ..Options::default() })?;
    let bad = S3::start(Kind::S3sFs)?;
    let (code, found) = doctor(&weir, &[&format!("store.url={}", bad.new_store())])?;
    ensure!(code == Some(1), "{code:?} {found:?}");
    ensure!(found["store"].0 == "failed" && found["store"].1.contains("writers won one race"), "{found:?}");
    weir.finish()
}
