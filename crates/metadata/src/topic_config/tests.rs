use super::*;

fn configs(pairs: &[(&str, &str)]) -> Configs {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn the_table_is_sorted_and_its_defaults_are_possible() {
    for pair in KEYS.windows(2) {
        assert!(pair[0].name < pair[1].name, "{} {}", pair[0].name, pair[1].name);
    }
    for key in &KEYS {
        assert_eq!(key.check(key.default), Ok(()), "{}", key.name);
        assert!(key.documentation.ends_with('.'), "{}", key.name);
        assert_eq!(find(key.name), Some(key));
        if let Some(synonym) = key.synonym {
            let synonym = crate::broker_config::find(synonym).unwrap();
            assert_eq!(synonym.default, key.default, "{}", key.name);
            assert_eq!(synonym.kind, key.kind, "{}", key.name);
        }
    }
    assert_eq!(find("message.format.version"), None);
}

#[test]
fn every_type_refuses_what_it_cannot_hold() {
    for (key, good, bad) in [
        ("cleanup.policy", "compact,delete", "compact,shred"),
        ("cleanup.policy", "compact, delete", "deleted"),
        ("compression.type", "zstd", "brotli"),
        ("max.message.bytes", "0", "-1"),
        ("max.message.bytes", "2147483647", "2147483648"),
        ("retention.ms", "-1", "-2"),
        ("retention.ms", "9223372036854775807", "forever"),
        ("preallocate", "true", "TRUE!"),
        ("min.cleanable.dirty.ratio", "0.25", "1.5"),
        ("min.cleanable.dirty.ratio", "1", "NaN"),
        ("weir.durability", "object", "maybe"),
    ] {
        assert_eq!(find(key).unwrap().check(good), Ok(()), "{key}={good}");
        let why = find(key).unwrap().check(bad).unwrap_err();
        assert!(why.contains(key), "{why}");
    }
}

#[test]
fn a_value_comes_from_the_topic_then_the_broker_then_the_default() {
    let none = Configs::new();
    assert_eq!(TopicConfig::default().retention_ms, Some(604_800_000));
    assert_eq!(TopicConfig::default().max_message_bytes, 1_048_588);
    assert_eq!(TopicConfig::default().timestamp_before_max_ms, i64::MAX);
    let broker = configs(&[("log.retention.ms", "5000"), ("message.max.bytes", "100")]);
    assert_eq!(TopicConfig::resolve(&none, &broker).retention_ms, Some(5000));
    let topic = configs(&[("retention.ms", "-1"), ("cleanup.policy", "compact")]);
    let resolved = TopicConfig::resolve(&topic, &broker);
    assert_eq!(resolved.retention_ms, None);
    assert_eq!(resolved.max_message_bytes, 100);
    assert!(resolved.compacted && !resolved.deleted);
    let by_name = configs(&[("retention.ms", "9000"), ("message.timestamp.type", "LogAppendTime")]);
    assert_eq!(TopicConfig::resolve(&none, &by_name).retention_ms, Some(9000));
    assert!(TopicConfig::resolve(&none, &by_name).log_append_time);

    let file = configs(&[("log.retention.ms", "7000")]);
    let layers = BrokerLayers { broker: &broker, cluster: &none, file: &file };
    let described = describe(&topic, layers);
    let retention = described.iter().find(|value| value.key.name == "retention.ms").unwrap();
    assert_eq!((retention.value.as_str(), retention.source), ("-1", ConfigSource::Topic));
    assert_eq!(
        retention.synonyms,
        [
            ("retention.ms", "-1".to_owned(), ConfigSource::Topic),
            ("log.retention.ms", "5000".to_owned(), ConfigSource::DynamicBroker),
            ("log.retention.ms", "7000".to_owned(), ConfigSource::StaticBroker),
            ("log.retention.ms", "604800000".to_owned(), ConfigSource::Default),
        ]
    );
}

#[test]
fn a_stored_value_that_became_impossible_counts_as_not_set() {
    let topic = configs(&[("retention.ms", "never"), ("compression.type", "brotli")]);
    assert_eq!(TopicConfig::resolve(&topic, &Configs::new()), TopicConfig::default());
}
