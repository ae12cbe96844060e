//! The configuration of topics: one table of keys, and [`TopicConfig`], the values as types.
//!
//! A key that nobody set on the topic takes the value of its broker-wide synonym, and that one's default otherwise. Keys
//! are Kafka's, so that its clients and tools find what they look for; those that mean nothing here are accepted and
//! reported ([`ConfigKey::effective`] tells).

mod table;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use crate::config_value::items;
pub use crate::config_value::{BrokerLayers, ConfigKey, ConfigSource, ConfigType, ConfigValue};
use crate::machine::Configs;
pub use table::KEYS;

/// The row of a key.
#[must_use]
pub fn find(name: &str) -> Option<&'static ConfigKey> {
    KEYS.binary_search_by(|key| key.name.cmp(name)).ok().map(|at| &KEYS[at])
}

/// The value of every key for a topic, with where it comes from: what DescribeConfigs shows.
#[must_use]
pub fn describe(topic: &Configs, broker: BrokerLayers<'_>) -> Vec<ConfigValue> {
    KEYS.iter().map(|key| value_of(key, topic, broker)).collect()
}

fn value_of(key: &'static ConfigKey, topic: &Configs, broker: BrokerLayers<'_>) -> ConfigValue {
    let mut synonyms = Vec::new();
    if let Some(value) = topic.get(key.name) {
        synonyms.push((key.name, value.clone(), ConfigSource::Topic));
    }
    if let Some(synonym) = key.synonym {
        synonyms.extend(broker.values(synonym).map(|(value, source)| (synonym, value.to_owned(), source)));
    }
    synonyms.push((key.synonym.unwrap_or(key.name), key.default.to_owned(), ConfigSource::Default));
    let (_, value, source) = synonyms[0].clone();
    ConfigValue { key, value, source, synonyms }
}

/// With which codec records are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompressionType {
    /// As the producer sent them.
    Producer,
    /// Not compressed.
    Uncompressed,
    /// With gzip.
    Gzip,
    /// With snappy.
    Snappy,
    /// With lz4.
    Lz4,
    /// With zstd.
    Zstd,
}

/// What an acknowledgement means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A quorum of the journal's members has synced the record.
    Quorum,
    /// The record lies in the object store.
    Object,
}

/// A topic's configuration as the code uses it. Times in milliseconds, sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TopicConfig {
    /// Old records are deleted.
    pub deleted: bool,
    /// Only the last record of a key is kept.
    pub compacted: bool,
    /// The codec records are stored with.
    pub compression_type: CompressionType,
    /// How long tombstones are kept.
    pub delete_retention_ms: i64,
    /// The largest batch.
    pub max_message_bytes: usize,
    /// How far a timestamp may lie in the future; `i64::MAX` is no bound.
    pub timestamp_after_max_ms: i64,
    /// How far a timestamp may lie in the past; `i64::MAX` is no bound.
    pub timestamp_before_max_ms: i64,
    /// Records have the time of their append, not the producer's.
    pub log_append_time: bool,
    /// When compaction is worth it.
    pub min_cleanable_dirty_ratio: f64,
    /// How long records stay out of compaction at least.
    pub min_compaction_lag_ms: i64,
    /// And at most; `i64::MAX` is no bound.
    pub max_compaction_lag_ms: i64,
    /// Reported only.
    pub min_insync_replicas: i32,
    /// The size above which old records are deleted.
    pub retention_bytes: Option<u64>,
    /// The age above which records are deleted.
    pub retention_ms: Option<i64>,
    /// What an acknowledgement means.
    pub durability: Durability,
}

static DEFAULT: LazyLock<TopicConfig> = LazyLock::new(|| TopicConfig::compute(&Configs::new(), &Configs::new()));

impl TopicConfig {
    /// The configuration of a topic on which `topic` is set. `defaults` hold where the topic sets nothing, under the
    /// topic's keys or their broker-wide synonyms.
    ///
    /// Stored values were checked when they were set. One that is not possible any more counts as not set.
    #[must_use]
    pub fn resolve(topic: &Configs, defaults: &Configs) -> Self {
        if topic.is_empty() && defaults.is_empty() { *DEFAULT } else { Self::compute(topic, defaults) }
    }

    fn compute(topic: &Configs, defaults: &Configs) -> Self {
        let text = |name: &str| -> &str {
            let key = find(name).expect("the name is in the table");
            topic
                .get(key.name)
                .into_iter()
                .chain(defaults.get(key.name))
                .chain(key.synonym.and_then(|synonym| defaults.get(synonym)))
                .map(String::as_str)
                .find(|value| key.check(value).is_ok())
                .unwrap_or(key.default)
        };
        let long = |name: &str| text(name).parse::<i64>().expect("checked against the table");
        let policy = |word: &str| items(text("cleanup.policy")).any(|item| item == word);
        Self {
            deleted: policy("delete"),
            compacted: policy("compact"),
            compression_type: match text("compression.type") {
                "uncompressed" => CompressionType::Uncompressed,
                "gzip" => CompressionType::Gzip,
                "snappy" => CompressionType::Snappy,
                "lz4" => CompressionType::Lz4,
                "zstd" => CompressionType::Zstd,
                _ => CompressionType::Producer,
            },
            delete_retention_ms: long("delete.retention.ms"),
            max_message_bytes: usize::try_from(long("max.message.bytes")).expect("checked against the table"),
            timestamp_after_max_ms: long("message.timestamp.after.max.ms"),
            timestamp_before_max_ms: long("message.timestamp.before.max.ms"),
            log_append_time: text("message.timestamp.type") == "LogAppendTime",
            min_cleanable_dirty_ratio: text("min.cleanable.dirty.ratio").parse().expect("checked against the table"),
            min_compaction_lag_ms: long("min.compaction.lag.ms"),
            max_compaction_lag_ms: long("max.compaction.lag.ms"),
            min_insync_replicas: i32::try_from(long("min.insync.replicas")).expect("checked against the table"),
            retention_bytes: u64::try_from(long("retention.bytes")).ok(),
            retention_ms: Some(long("retention.ms")).filter(|value| *value >= 0 && *value != i64::MAX),
            durability: match text("weir.durability") {
                "object" => Durability::Object,
                _ => Durability::Quorum,
            },
        }
    }
}

impl Default for TopicConfig {
    fn default() -> Self {
        *DEFAULT
    }
}
