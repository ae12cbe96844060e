//! The object store: whether it can be used, what its bucket is set to, and what time it has.

use chrono::DateTime;
use objects::bucket::Lifecycle;
use objects::{Bucket, BucketError, Setting};

use super::Finding;
use crate::config::Store;
use crate::environment::Environment;

/// A person waits: a request that takes longer tells enough.
const REQUEST_TIMEOUT_MS: u64 = 10_000;
/// S3 refuses requests whose time differs by 15 minutes; by then every start fails.
const CLOCK_FAILED_S: u64 = 300;
const CLOCK_WARNING_S: u64 = 30;

/// Everything about the store.
pub(super) async fn examine(store: &Store, environment: &Environment) -> Vec<Finding> {
    let correct = "correct the section `store` of the configuration";
    let mut options = match store.options() {
        Ok(options) => options,
        Err(error) => return vec![Finding::failed("store", error.to_string(), correct)],
    };
    let timeout = store.request_timeout_ms.min(REQUEST_TIMEOUT_MS);
    options.push(("request_timeout_ms".to_owned(), timeout.to_string()));
    options.push(("retries_max".to_owned(), "1".to_owned()));
    let opened = match objects::open(&store.url, &options) {
        Ok(opened) => opened,
        Err(error) => return vec![Finding::failed("store", error.to_string(), correct)],
    };
    let mut findings = vec![match objects::preflight::run(&opened, &environment.random).await {
        Ok(report) if store.url.starts_with("memory:") => Finding::warning(
            "store",
            format!("{opened}: all of {} races had one winner", 2 * report.rounds),
            "it is gone with the process: use it for tests only",
        ),
        Ok(report) => Finding::ok(
            "store",
            format!("{opened}: each of {} races of {} writers had one winner", 2 * report.rounds, report.writers),
        ),
        Err(error) => {
            let remedy = if error.is_retriable() {
                "bring the store back, or correct `store.url` and `store.endpoint`; a broker waits for it"
            } else {
                "do as the finding says"
            };
            Finding::failed("store", error.to_string(), remedy)
        }
    }];
    match Bucket::open(&store.url, &options) {
        Err(error) => findings.push(Finding::failed("bucket", error.to_string(), correct)),
        Ok(None) => {
            findings.push(Finding::unknown("bucket", "only buckets of S3 are asked for their settings"));
            findings.push(Finding::unknown("clock", "only S3 is asked for its time"));
        }
        Ok(Some(bucket)) => {
            findings.extend(settings(&bucket, store).await);
            findings.push(clock(&bucket, environment).await);
        }
    }
    findings
}

/// The bucket's settings, each a finding of its own.
async fn settings(bucket: &Bucket, store: &Store) -> Vec<Finding> {
    let lifecycle = bucket.lifecycle().await;
    let mut findings = match &lifecycle {
        Ok(Setting::Is(lifecycle)) => rules(lifecycle),
        Ok(Setting::NotSet) => rules(&Lifecycle::default()),
        Ok(Setting::Untold(why)) => vec![Finding::unknown("bucket lifecycle", why)],
        Err(error) => return vec![not_asked("bucket", error)],
    };
    let old_deleted = matches!(&lifecycle, Ok(Setting::Is(lifecycle)) if lifecycle.deletes_old_versions);
    findings.push(told("bucket versioning", bucket.versioning().await, |on| match on {
        Some(true) if !old_deleted => Finding::warning(
            "bucket versioning",
            "on: what Weir deletes and replaces stays, and is paid for",
            "suspend it, or add a lifecycle rule that expires noncurrent versions",
        ),
        Some(true) => Finding::ok("bucket versioning", "on, and old versions are deleted by a rule"),
        _ => Finding::ok("bucket versioning", "off"),
    }));
    let asked = store.options().is_ok_and(|all| all.iter().any(|(name, _)| name == "encryption"));
    findings.push(told("bucket encryption", bucket.encryption().await, |algorithm| match algorithm {
        Some(algorithm) => Finding::ok("bucket encryption", algorithm),
        None if asked => Finding::ok("bucket encryption", "not set; each PUT asks for it (`store.encryption`)"),
        None => Finding::warning(
            "bucket encryption",
            "not set: objects may lie unencrypted",
            "set the bucket's default encryption, or `store.encryption`",
        ),
    }));
    findings.push(told("bucket object lock", bucket.object_lock().await, |lock| match lock.flatten() {
        Some(retention) => Finding::warning(
            "bucket object lock",
            format!("new objects are locked ({retention}): what Weir deletes stays, and is paid for"),
            "remove the default retention from the bucket",
        ),
        None => Finding::ok("bucket object lock", "locks nothing by default"),
    }));
    findings.push(told("bucket public access", bucket.public_access().await, |access| {
        if access.is_some_and(|access| access.is_blocked()) {
            return Finding::ok("bucket public access", "blocked");
        }
        Finding::warning(
            "bucket public access",
            "not blocked: a policy or an access list could make records public",
            "turn on all four switches of the bucket's public access block",
        )
    }));
    findings
}

/// What the bucket does to our objects by itself.
fn rules(lifecycle: &Lifecycle) -> Vec<Finding> {
    const CHECK: &str = "bucket lifecycle";
    let mut findings = Vec::new();
    let named = |rules: &[String]| rules.join(", ");
    if !lifecycle.deletes.is_empty() {
        findings.push(Finding::failed(
            CHECK,
            format!("rules delete objects that Weir needs: {}", named(&lifecycle.deletes)),
            "remove them, or keep them to other prefixes: Weir deletes what it no longer needs",
        ));
    }
    if !lifecycle.archives.is_empty() {
        findings.push(Finding::failed(
            CHECK,
            format!("rules move objects to where they cannot be read at once: {}", named(&lifecycle.archives)),
            "remove them, or keep them to other prefixes",
        ));
    }
    findings.push(match lifecycle.gives_up_uploads_days {
        Some(days) => Finding::ok(CHECK, format!("uploads that were not finished are given up after {days} days")),
        None => Finding::warning(
            CHECK,
            "uploads that were not finished stay for ever, and are paid for",
            "add a rule with AbortIncompleteMultipartUpload, for instance after 1 day",
        ),
    });
    findings
}

/// A setting's finding; `judge` is given nothing where it is not set.
fn told<T>(check: &str, setting: Result<Setting<T>, BucketError>, judge: impl FnOnce(Option<T>) -> Finding) -> Finding {
    match setting {
        Ok(Setting::Is(value)) => judge(Some(value)),
        Ok(Setting::NotSet) => judge(None),
        Ok(Setting::Untold(why)) => Finding::unknown(check, why),
        Err(error) => not_asked(check, &error),
    }
}

fn not_asked(check: &str, error: &BucketError) -> Finding {
    match error {
        BucketError::Unreachable(_) => Finding::unknown(check, error.to_string()),
        BucketError::Credentials(_) | BucketError::Refused { .. } => {
            Finding::failed(check, error.to_string(), "make the bucket, and give the credentials access to it")
        }
    }
}

/// Our clock against the store's.
async fn clock(bucket: &Bucket, environment: &Environment) -> Finding {
    const CHECK: &str = "clock";
    let before = environment.clock.now().0;
    let date = match bucket.date().await {
        Ok(date) => date,
        Err(error) => return not_asked(CHECK, &error),
    };
    let after = environment.clock.now().0;
    let Some(theirs) = date.and_then(|date| DateTime::parse_from_rfc2822(&date).ok()) else {
        return Finding::unknown(CHECK, "the store does not tell its time");
    };
    // The header has whole seconds: half of one is the best guess at what was cut off.
    let ours = before.midpoint(after);
    let ahead_ms = ours.saturating_sub(theirs.timestamp_millis().saturating_add(500));
    judge_clock(ahead_ms)
}

fn judge_clock(ahead_ms: i64) -> Finding {
    const CHECK: &str = "clock";
    let seconds = ahead_ms.unsigned_abs() / 1000;
    let side = if ahead_ms >= 0 { "ahead of" } else { "behind" };
    let found = format!("{seconds} s {side} the store's");
    let remedy = "run a time service (chrony, systemd-timesyncd)";
    match seconds {
        0..CLOCK_WARNING_S => Finding::ok(CHECK, found),
        CLOCK_WARNING_S..CLOCK_FAILED_S => Finding::warning(CHECK, found, remedy),
        _ => Finding::failed(CHECK, format!("{found}; S3 refuses requests from 15 minutes on"), remedy),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_clock_may_differ_by_seconds_and_not_by_minutes() {
        assert_eq!(judge_clock(-1500).verdict, Verdict::Ok);
        assert_eq!(judge_clock(31_000).verdict, Verdict::Warning);
        let failed = judge_clock(-600_000);
        assert_eq!(failed.verdict, Verdict::Failed);
        assert!(failed.found.contains("600 s behind"), "{}", failed.found);
    }

    #[test]
    fn rules_that_take_our_objects_away_fail() {
        let verdicts = |lifecycle: &Lifecycle| rules(lifecycle).iter().map(|found| found.verdict).collect::<Vec<_>>();
        assert_eq!(verdicts(&Lifecycle::default()), [Verdict::Warning]);
        let rule = || vec!["thirty-days".to_owned()];
        let deleting = Lifecycle { deletes: rule(), archives: rule(), ..Lifecycle::default() };
        assert_eq!(verdicts(&deleting), [Verdict::Failed, Verdict::Failed, Verdict::Warning]);
        assert!(rules(&deleting)[0].found.contains("thirty-days"));
        let tidy = Lifecycle { gives_up_uploads_days: Some(1), ..Lifecycle::default() };
        assert_eq!(verdicts(&tidy), [Verdict::Ok]);
    }
}
