//! The table of broker configuration keys that Kafka's tools ask for: the broker-wide defaults of topics, and some of
//! the broker's own. What is not read-only can be changed while brokers run, on one broker or on all.

use crate::config_value::ConfigType::{Boolean, Int, Long};
pub use crate::config_value::{BrokerLayers, ConfigKey, ConfigSource, ConfigType, ConfigValue};
use crate::topic_config;
use std::sync::LazyLock;

const fn own(
    name: &'static str,
    kind: ConfigType,
    default: &'static str,
    effective: bool,
    read_only: bool,
    documentation: &'static str,
) -> ConfigKey {
    ConfigKey { name, kind, default, synonym: None, effective, read_only, documentation }
}

/// The keys that are no topic's default.
static OWN: [ConfigKey; 9] = [
    own(
        "auto.create.topics.enable",
        Boolean,
        "true",
        true,
        true,
        "Whether a topic that is asked for by name and does not exist is made.",
    ),
    own("broker.id", Int(-1, i32::MAX), "-1", true, true, "The broker's id, which the controller gives to its name."),
    own(
        "default.replication.factor",
        Int(1, i32::MAX),
        "1",
        false,
        true,
        "The replication factor that is reported; durability does not depend on it.",
    ),
    own("delete.topic.enable", Boolean, "true", false, true, "Whether topics can be deleted."),
    own(
        "group.initial.rebalance.delay.ms",
        Int(0, i32::MAX),
        "3000",
        true,
        true,
        "How long a new group waits for more members before its first rebalance, in milliseconds.",
    ),
    own(
        "group.max.session.timeout.ms",
        Int(1, i32::MAX),
        "1800000",
        true,
        true,
        "The longest session time-out a group's member may ask for, in milliseconds.",
    ),
    own(
        "group.min.session.timeout.ms",
        Int(1, i32::MAX),
        "6000",
        true,
        true,
        "The shortest session time-out a group's member may ask for, in milliseconds.",
    ),
    own("num.partitions", Int(1, i32::MAX), "1", true, true, "How many partitions a topic has when nobody says."),
    own(
        "offsets.retention.minutes",
        Long(1, i32::MAX as i64),
        "10080",
        true,
        true,
        "How long the offsets of an empty group are kept, in minutes.",
    ),
];

/// Every key, sorted by name.
pub static KEYS: LazyLock<Vec<ConfigKey>> = LazyLock::new(|| {
    let mut keys = OWN.to_vec();
    let defaults =
        topic_config::KEYS.iter().filter_map(|key| Some(ConfigKey { name: key.synonym?, synonym: None, ..*key }));
    keys.extend(defaults);
    keys.sort_unstable_by_key(|key| key.name);
    keys
});

/// The row of a key.
#[must_use]
pub fn find(name: &str) -> Option<&'static ConfigKey> {
    let keys: &'static [ConfigKey] = &KEYS;
    keys.binary_search_by(|key| key.name.cmp(name)).ok().map(|at| &keys[at])
}

/// The value of every key for a broker, with where it comes from: what DescribeConfigs shows.
#[must_use]
pub fn describe(layers: BrokerLayers<'_>) -> Vec<ConfigValue> {
    let keys: &'static [ConfigKey] = &KEYS;
    keys.iter()
        .map(|key| {
            let mut synonyms: Vec<_> =
                layers.values(key.name).map(|(value, source)| (key.name, value.to_owned(), source)).collect();
            synonyms.push((key.name, key.default.to_owned(), ConfigSource::Default));
            let (_, value, source) = synonyms[0].clone();
            ConfigValue { key, value, source, synonyms }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_there_once_and_its_default_is_possible() {
        for pair in KEYS.windows(2) {
            assert!(pair[0].name < pair[1].name, "{} {}", pair[0].name, pair[1].name);
        }
        for key in KEYS.iter() {
            assert_eq!(find(key.name), Some(key));
            assert_eq!(key.check(key.default), Ok(()), "{}", key.name);
        }
        assert!(find("message.max.bytes").is_some());
    }

    #[test]
    fn a_broker_overrides_the_cluster_which_overrides_the_file() {
        let one = |value: &str| crate::Configs::from([("message.max.bytes".to_owned(), value.to_owned())]);
        let (broker, cluster, file) = (one("1"), one("2"), one("3"));
        let described = describe(BrokerLayers { broker: &broker, cluster: &cluster, file: &file });
        let found = described.iter().find(|value| value.key.name == "message.max.bytes").unwrap();
        assert_eq!((found.value.as_str(), found.source), ("1", ConfigSource::DynamicBroker));
        assert_eq!(found.synonyms.len(), 4);
    }
}
