//! What types and bounds cannot say: how keys must fit each other. Nothing outside the configuration is looked at;
//! whether files exist and addresses can be bound is for the start.

use std::collections::HashSet;

use super::listeners::{is_wildcard, split_host_port};
use super::secret::SECRETS;
use super::store::Encryption;
use super::tree::Path;
use super::{Authentication, Config, Protocol};

/// The schemes of object stores that exist.
const SCHEMES: [&str; 5] = ["s3", "gs", "az", "file", "memory"];

/// Every problem, with the key that it is about; the sentence goes on after the key's name.
pub(super) fn check(config: &Config) -> Vec<(Path, String)> {
    let mut problems = Problems(Vec::new());
    names(config, &mut problems);
    store(config, &mut problems);
    listeners(config, &mut problems);
    sizes(config, &mut problems);
    problems.0
}

struct Problems(Vec<(Path, String)>);

impl Problems {
    fn add(&mut self, key: &str, problem: impl Into<String>) {
        self.0.push((key.split('.').map(str::to_owned).collect(), problem.into()));
    }
}

fn names(config: &Config, problems: &mut Problems) {
    let plain = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    for (key, name) in [("broker.name", &config.broker.name), ("cluster.name", &config.cluster.name)] {
        if !plain(name) || name.starts_with('.') {
            problems.add(key, format!("is {name:?}, and may hold letters, digits, `.`, `_` and `-` only"));
        }
    }
    if config.cluster.name.len() > objects::keys::CLUSTER_NAME_LEN_MAX || config.cluster.name == "preflight" {
        let longest = objects::keys::CLUSTER_NAME_LEN_MAX;
        problems.add("cluster.name", format!("may have up to {longest} characters, and is not `preflight`"));
    }
    if config.broker.zone.as_deref() == Some("") {
        problems.add("broker.zone", "is empty; leave it out where there are no zones");
    }
}

fn store(config: &Config, problems: &mut Problems) {
    let store = &config.store;
    match store.url.split_once("://") {
        Some((scheme, rest)) if SCHEMES.contains(&scheme) => {
            let host = rest.split('/').next().unwrap_or_default();
            if host.contains('@') {
                problems.add("store.url", "holds credentials; use `store.access_key_id` and `store.secret_access_key`");
            } else if host.is_empty() && !matches!(scheme, "file" | "memory") {
                problems.add("store.url", format!("names no bucket; write {scheme}://BUCKET/PREFIX"));
            } else if scheme == "file" && !rest.starts_with('/') {
                problems.add("store.url", "must be an absolute path: file:///DIR");
            }
        }
        Some((scheme, _)) => problems.add(
            "store.url",
            format!("has the unknown scheme `{scheme}`; known are s3://, gs://, az://, file:// and memory://"),
        ),
        None => problems.add("store.url", "is not a URL; write for instance s3://BUCKET/PREFIX or file:///DIR"),
    }
    let query = store.url.split_once('?').map_or("", |(_, query)| query);
    for (name, _) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        if SECRETS.contains(&name) {
            problems.add("store.url", format!("holds a secret; use `store.{name}`"));
        }
    }
    if store.access_key_id.is_some() != store.secret_access_key.is_some() {
        let (there, missing) = if store.access_key_id.is_some() {
            ("access_key_id", "secret_access_key")
        } else {
            ("secret_access_key", "access_key_id")
        };
        problems.add(&format!("store.{there}"), format!("is set without `store.{missing}`; give both or neither"));
    }
    if store.kms_key_id.is_some() && store.encryption != Encryption::SseKms {
        problems.add("store.kms_key_id", "is for `store.encryption: sse-kms`");
    }
}

fn listeners(config: &Config, problems: &mut Problems) {
    let mut names = HashSet::new();
    let mut addresses = HashSet::new();
    let mut kafka = false;
    for (index, listener) in config.listeners.iter().enumerate() {
        let key = |field: &str| format!("listeners.{index}.{field}");
        kafka |= matches!(listener.protocol, Protocol::Kafka | Protocol::Quic);
        if !names.insert(&listener.name) {
            problems.add(&key("name"), format!("is {:?} a second time; names are unique", listener.name));
        }
        match split_host_port(&listener.address) {
            None => problems.add(&key("address"), "must be HOST:PORT, such as 127.0.0.1:9092 or [::1]:9092"),
            Some((host, port)) => {
                let udp = listener.protocol == Protocol::Quic;
                if port != 0 && !addresses.insert((udp, listener.address.clone())) {
                    problems.add(&key("address"), format!("is {} a second time", listener.address));
                }
                if is_wildcard(host) && listener.advertised.is_none() && listener.protocol != Protocol::Http {
                    problems.add(
                        &key("address"),
                        format!(
                            "is every address of the machine; say in `{}` which one clients use",
                            key("advertised")
                        ),
                    );
                }
            }
        }
        match listener.advertised.as_deref().map(split_host_port) {
            Some(None) => problems.add(&key("advertised"), "must be HOST:PORT"),
            Some(Some((host, _))) if is_wildcard(host) => {
                problems.add(&key("advertised"), "is an address that no client can connect to");
            }
            _ => {}
        }
        if listener.tls && listener.protocol != Protocol::Kafka {
            problems.add(
                &key("tls"),
                "is for listeners of the protocol `kafka`: QUIC and brokers always have it, HTTP never",
            );
        }
        peer(config, index, problems);
        if listener.uses_tls() && (config.tls.certificate_file.is_none() || config.tls.key_file.is_none()) {
            let missing = if config.tls.certificate_file.is_none() { "certificate_file" } else { "key_file" };
            problems.add(&key("protocol"), format!("needs a certificate; set `tls.{missing}`"));
        }
        if listener.authentication == Authentication::MutualTls {
            if !listener.uses_tls() {
                problems.add(&key("authentication"), "is mutual_tls, and the listener has no TLS");
            } else if config.tls.client_ca_file.is_none() {
                problems.add(&key("authentication"), "is mutual_tls and needs `tls.client_ca_file`");
            }
        }
    }
    if !kafka {
        problems.add("listeners", "must hold at least one with the protocol `kafka` or `quic`");
    }
}

/// The listener for other brokers: there is one, by a name of its own, and it has its certificates.
fn peer(config: &Config, index: usize, problems: &mut Problems) {
    let listener = &config.listeners[index];
    let key = |field: &str| format!("listeners.{index}.{field}");
    if listener.protocol != Protocol::Peer {
        if listener.name == cluster::PEER_LISTENER {
            problems.add(&key("name"), "is `peer`, which is for the listener of that protocol");
        }
        return;
    }
    if config.listeners[..index].iter().any(|other| other.protocol == Protocol::Peer) {
        problems.add(&key("protocol"), "is `peer` a second time; brokers listen for each other in one place");
    }
    if listener.authentication != Authentication::None {
        problems.add(&key("authentication"), "is for clients: brokers always show their certificates");
    }
    let tls = &config.tls;
    let files = [
        ("peer_certificate_file", &tls.peer_certificate_file),
        ("peer_key_file", &tls.peer_key_file),
        ("peer_ca_file", &tls.peer_ca_file),
    ];
    if let Some((missing, _)) = files.into_iter().find(|(_, file)| file.is_none()) {
        problems.add(&key("protocol"), format!("needs the certificates of brokers; set `tls.{missing}`"));
    }
}

fn sizes(config: &Config, problems: &mut Problems) {
    let staging = &config.staging;
    if staging.dir.as_os_str().is_empty() {
        problems.add("staging.dir", "is empty");
    }
    if staging.segment_bytes.saturating_mul(2) > staging.bytes_max {
        problems.add("staging.bytes_max", "must hold at least two segments (`staging.segment_bytes`)");
    }
    let groups = &config.groups;
    if groups.session_timeout_min_ms > groups.session_timeout_max_ms {
        problems.add("groups.session_timeout_min_ms", "is larger than `groups.session_timeout_max_ms`");
    }
    if i64::from(config.topics.message_bytes_max) > i64::from(config.limits.request_bytes_max) {
        problems.add("topics.message_bytes_max", "is larger than `limits.request_bytes_max`");
    }
    if u64::from(config.limits.request_bytes_max) > config.limits.requests_memory_bytes {
        problems.add("limits.requests_memory_bytes", "must hold at least one request (`limits.request_bytes_max`)");
    }
    if u64::from(config.limits.fetch_bytes_max) > config.limits.answers_memory_bytes {
        problems.add("limits.answers_memory_bytes", "must hold at least one answer (`limits.fetch_bytes_max`)");
    }
    if u64::from(config.cache.chunk_bytes) * 4 > config.cache.memory_bytes {
        problems.add("cache.memory_bytes", "must hold at least four chunks (`cache.chunk_bytes`)");
    }
    if config.cache.scan_bytes > config.cache.memory_bytes {
        problems.add("cache.scan_bytes", "is larger than `cache.memory_bytes`, of which it is a part");
    }
    if config.log.level.trim().is_empty() {
        problems.add("log.level", "is empty");
    }
}
