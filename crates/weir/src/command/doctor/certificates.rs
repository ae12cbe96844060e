//! The certificates of the listeners: whether they can be used, for how long, and for which names.

use std::collections::BTreeSet;

use records::Timestamp;
use tls::{Identity, IdentityFiles};

use super::Finding;
use crate::config::{Authentication, Config, is_wildcard, split_host_port};

const DAY_MS: i64 = 24 * 3600 * 1000;
/// With fewer days left, whoever renews it is late.
const LATE_DAYS: i64 = 14;

/// Everything about the certificates; nothing where no listener has one.
pub(super) fn examine(config: &Config, now: Timestamp) -> Vec<Finding> {
    if !config.listeners.iter().any(|listener| listener.uses_tls()) {
        return Vec::new();
    }
    let (Some(certificate), Some(key)) = (&config.tls.certificate_file, &config.tls.key_file) else {
        let found = "a listener has TLS, and there is no certificate";
        return vec![Finding::failed("certificate", found, "set `tls.certificate_file` and `tls.key_file`")];
    };
    let identity = match Identity::load(&IdentityFiles { certificate: certificate.clone(), key: key.clone() }) {
        Ok(identity) => identity,
        Err(error) => {
            let remedy = "correct `tls.certificate_file` and `tls.key_file`, or the files";
            return vec![Finding::failed("certificate", error.to_string(), remedy)];
        }
    };
    let mut findings = vec![validity(identity.not_after().0.saturating_sub(now.0))];
    findings.push(names(config, &identity));
    if config.listeners.iter().any(|listener| listener.authentication == Authentication::MutualTls) {
        findings.push(client_ca(config));
    }
    findings
}

fn validity(left_ms: i64) -> Finding {
    const CHECK: &str = "certificate";
    let days = left_ms.div_euclid(DAY_MS);
    let remedy = "renew it; a running broker takes the new files by itself";
    match days {
        ..0 => Finding::failed(CHECK, format!("it ended {} days ago", days.unsigned_abs()), remedy),
        0..LATE_DAYS => Finding::warning(CHECK, format!("the key fits; it ends in {days} days"), remedy),
        _ => Finding::ok(CHECK, format!("the key fits; valid for {days} more days")),
    }
}

/// Clients compare the name that they connect to, which is what listeners advertise.
fn names(config: &Config, identity: &Identity) -> Finding {
    const CHECK: &str = "certificate names";
    let mut hosts = BTreeSet::new();
    for listener in config.listeners.iter().filter(|listener| listener.uses_tls()) {
        let advertised = listener.advertised.as_deref().unwrap_or(&listener.address);
        hosts.extend(split_host_port(advertised).map(|(host, _)| host).filter(|host| !is_wildcard(host)));
    }
    let own = &identity.chain()[0];
    let (held, missing): (Vec<&str>, Vec<&str>) =
        hosts.into_iter().partition(|host| tls::is_for_name(own, host).unwrap_or(false));
    if missing.is_empty() {
        return Finding::ok(CHECK, held.join(", "));
    }
    Finding::failed(
        CHECK,
        format!("it does not hold {}, where listeners tell clients to connect", missing.join(", ")),
        "issue it with these as subject alternative names, or correct `advertised` of the listeners",
    )
}

fn client_ca(config: &Config) -> Finding {
    const CHECK: &str = "client CA";
    let (Some(certificate), Some(key), Some(ca)) =
        (&config.tls.certificate_file, &config.tls.key_file, &config.tls.client_ca_file)
    else {
        return Finding::failed(CHECK, "there is none", "set `tls.client_ca_file`");
    };
    let identity = IdentityFiles { certificate: certificate.clone(), key: key.clone() };
    let client_auth = tls::ClientAuth::Required { ca: ca.clone() };
    match tls::Server::load(tls::ServerSettings { identity, client_auth }) {
        Ok(_) => Finding::ok(CHECK, ca.display().to_string()),
        Err(error) => Finding::failed(CHECK, error.to_string(), "correct `tls.client_ca_file`, or the file"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_certificate_is_told_of_before_it_ends() {
        assert_eq!(validity(100 * DAY_MS).verdict, Verdict::Ok);
        assert_eq!(validity(13 * DAY_MS).verdict, Verdict::Warning);
        assert_eq!(validity(1).verdict, Verdict::Warning);
        assert_eq!(validity(-1).verdict, Verdict::Failed);
        assert!(validity(-3 * DAY_MS).found.contains("3 days ago"));
    }
}
