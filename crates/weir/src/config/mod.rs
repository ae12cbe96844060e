//! The configuration of a broker: one YAML file, overridden by the environment, overridden by flags.
//!
//! The types below are the whole truth: their documentation is the published schema (`weir config schema`), their
//! defaults are the defaults, and a key that is not a field is an error that names the nearest key. Sizes are bytes
//! and times are milliseconds, as the suffix of each key says. Secrets are named by where they lie, never written
//! here, so that a configuration can be printed whole.

mod check;
mod groups;
mod keys;
mod limits;
mod listeners;
mod load;
pub(crate) mod memory;
mod print;
mod secret;
mod store;
mod tree;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use groups::{Groups, Topics};
pub(crate) use keys::schema;
pub(crate) use limits::{Cache, Limits, Staging};
pub(crate) use listeners::{Authentication, Listener, Protocol, Tls, is_wildcard, split_host_port};
pub(crate) use load::{ConfigError, Input, Loaded, load};
pub(crate) use print::{Effective, chosen, effective, yaml};
pub(crate) use secret::Secret;
pub(crate) use store::Store;

/// The configuration of one Weir broker. Every key can also be set as the environment variable `WEIR__SECTION__KEY`
/// and with `--set SECTION.KEY=VALUE`; the flag wins over the environment, which wins over the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The version of this file's format: 1. Required, so that a later version can tell an old file from a new one.
    #[schemars(range(min = 1, max = 1))]
    pub(crate) version: u32,
    /// Who this broker is.
    pub(crate) broker: Broker,
    /// Which cluster it belongs to.
    #[serde(default)]
    pub(crate) cluster: Cluster,
    /// The object store that keeps everything.
    pub(crate) store: Store,
    /// The local disk where records stand until they are uploaded.
    pub(crate) staging: Staging,
    /// Where the broker listens. Default: the Kafka protocol on 127.0.0.1:9092 and HTTP on 127.0.0.1:9080. A list
    /// given here replaces the default list.
    #[serde(default = "listeners::defaults")]
    pub(crate) listeners: Vec<Listener>,
    /// Certificates, for the listeners that need them.
    #[serde(default)]
    pub(crate) tls: Tls,
    /// The cache of what is read back from the object store.
    #[serde(default)]
    pub(crate) cache: Cache,
    /// Bounds on what clients may ask for.
    #[serde(default)]
    pub(crate) limits: Limits,
    /// Defaults for topics.
    #[serde(default)]
    pub(crate) topics: Topics,
    /// Consumer groups.
    #[serde(default)]
    pub(crate) groups: Groups,
    /// The log that the process writes to standard error, and how the logs of topics are kept.
    #[serde(default)]
    pub(crate) log: Log,
    /// What the broker tells about itself at `/metrics`.
    #[serde(default)]
    pub(crate) telemetry: Telemetry,
}

/// Who this broker is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Broker {
    /// The broker's name in its cluster. Required; letters, digits, `.`, `_` and `-`, at most 128 of them. The
    /// cluster gives a numeric id to a name once and for ever, so a broker that is replaced keeps its name, and two
    /// running brokers never share one.
    #[schemars(length(min = 1, max = 128))]
    pub(crate) name: String,
    /// The availability zone that the broker runs in, shown to clients as its rack. Default: none.
    #[serde(default)]
    pub(crate) zone: Option<String>,
}

/// Which cluster the broker belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Cluster {
    /// The cluster's name, and the first folder of all its keys in the store: clusters with different names share a
    /// bucket without touching each other. Default: `weir`. Changing it later means starting empty.
    #[schemars(length(min = 1, max = 128))]
    pub(crate) name: String,
}

impl Default for Cluster {
    fn default() -> Cluster {
        Cluster { name: "weir".to_owned() }
    }
}

/// The log that the process writes to standard error, and how the logs of topics are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    /// What is logged: `error`, `warn`, `info`, `debug` or `trace`, or directives per module such as
    /// `info,kafka=debug`. Default: `info`.
    pub(crate) level: String,
    /// How a line looks: `text` for people, `json` for collectors. Default: `text`.
    pub(crate) format: LogFormat,
    /// Of the topics' logs: how often, in milliseconds, partitions are looked at for records that are older than their
    /// `retention.ms` or more than their `retention.bytes`. Default: 300000 (5 minutes). Partitions of which nothing can
    /// have to go cost nothing.
    #[schemars(range(min = 10, max = 86_400_000))]
    pub(crate) retention_check_interval_ms: u64,
}

impl Default for Log {
    fn default() -> Log {
        Log { level: "info".to_owned(), format: LogFormat::Text, retention_check_interval_ms: 300_000 }
    }
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
    /// One readable line.
    Text,
    /// One JSON object a line.
    Json,
}

/// What the broker tells about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Telemetry {
    /// How often, in milliseconds, the lag of consumer groups is computed for `/metrics`. Default: 10000. Smaller is
    /// fresher and costs processor time in proportion to the number of committed offsets.
    #[schemars(range(min = 100, max = 3_600_000))]
    pub(crate) lag_interval_ms: u64,
}

impl Default for Telemetry {
    fn default() -> Telemetry {
        Telemetry { lag_interval_ms: 10_000 }
    }
}

impl Config {
    /// The file that keeps two processes out of one staging folder.
    pub(crate) fn lock_path(&self) -> PathBuf {
        self.staging.dir.join("weir.lock")
    }
}
