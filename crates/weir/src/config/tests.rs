//! Files, environments and flags as people write them, with the mistakes they make.

use serde_json::Value;

use super::secret::Secret;
use super::{Config, ConfigError, Input, Loaded, check, effective, load, schema, yaml};

const MINIMAL: &str = "version: 1\nbroker:\n  name: b1\nstore:\n  url: memory://\nstaging:\n  dir: /tmp/x\n";

/// What the process may use.
const MEMORY: u64 = 2 << 30;

fn from(text: &str) -> Result<Loaded, ConfigError> {
    with(text, &[], &[])
}

fn with(text: &str, environment: &[(&str, &str)], sets: &[&str]) -> Result<Loaded, ConfigError> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    load(&Input { name: "weir.yaml", text, environment, sets: &sets, memory_bytes: MEMORY })
}

fn refused(text: &str) -> String {
    from(text).unwrap_err().to_string()
}

fn source_of(loaded: &Loaded, key: &str) -> (Value, String) {
    let all = effective(loaded).unwrap();
    let found = all.into_iter().find(|one| one.key == key).unwrap();
    (found.value, found.source)
}

#[test]
fn a_minimal_file_is_enough_and_the_rest_are_defaults() {
    let config = from(MINIMAL).unwrap().config;
    assert_eq!(config.topics.num_partitions, 1);
    assert_eq!(config.staging.segment_bytes, 64 << 20);
    assert_eq!(config.listeners.len(), 2);
    assert_eq!(config.log, super::Log::default());
}

#[test]
fn unknown_keys_name_their_line_and_the_nearest_key() {
    let error = refused(&format!("{MINIMAL}  seal_intervall_ms: 5\n"));
    assert_eq!(error, "weir.yaml:8: unknown key `staging.seal_intervall_ms`; did you mean `staging.seal_interval_ms`?");
    let error = refused(&format!("{MINIMAL}\nseal_interval_ms: 5\n"));
    assert_eq!(error, "weir.yaml:9: unknown key `seal_interval_ms`; did you mean `staging.seal_interval_ms`?");
    let error = refused(&format!("{MINIMAL}stagging: {{}}\n"));
    assert_eq!(error, "weir.yaml:8: unknown key `stagging`; did you mean `staging`?");
    let error = refused(&format!("{MINIMAL}log:\n  zzz: 1\n"));
    assert_eq!(
        error,
        "weir.yaml:9: unknown key `log.zzz`; the keys in `log` are: format, level, retention_check_interval_ms"
    );
    let list = "listeners:\n  - name: a\n    protocol: kafka\n    adress: 127.0.0.1:1\n";
    let error = refused(&format!("{MINIMAL}{list}"));
    assert_eq!(error, "weir.yaml:11: unknown key `listeners.0.adress`; did you mean `listeners.0.address`?");
}

#[test]
fn all_unknown_keys_are_told_at_once() {
    let error = from(&format!("{MINIMAL}log:\n  levl: x\n  fromat: y\n")).unwrap_err();
    assert_eq!(error.problems.len(), 2, "{error}");
}

#[test]
fn environment_overrides_the_file_and_flags_override_both() {
    let text = format!("{MINIMAL}topics:\n  num_partitions: 2\n");
    let variable = ("WEIR__TOPICS__NUM_PARTITIONS", "3");
    let loaded = from(&text).unwrap();
    assert_eq!(source_of(&loaded, "topics.num_partitions"), (2.into(), "file:9".to_owned()));
    let loaded = with(&text, &[variable], &[]).unwrap();
    assert_eq!(source_of(&loaded, "topics.num_partitions"), (3.into(), "env:WEIR__TOPICS__NUM_PARTITIONS".to_owned()));
    let loaded = with(&text, &[variable], &["topics.num_partitions=4"]).unwrap();
    assert_eq!(loaded.config.topics.num_partitions, 4);
    assert_eq!(source_of(&loaded, "topics.num_partitions"), (4.into(), "flag".to_owned()));
    assert_eq!(source_of(&loaded, "topics.auto_create"), (true.into(), "default".to_owned()));
}

#[test]
fn text_from_the_environment_stays_text() {
    // Names that YAML would read as a number or a truth value.
    for name in ["7", "true", "null", "1e3"] {
        let loaded = with(MINIMAL, &[("WEIR__BROKER__NAME", name)], &[]).unwrap();
        assert_eq!(loaded.config.broker.name, name);
    }
}

#[test]
fn lists_can_be_set_whole_or_by_item() {
    let listeners = "[{name: a, protocol: kafka, address: '127.0.0.1:1'}]";
    let sets = [format!("listeners={listeners}"), "listeners.0.address=127.0.0.1:2".to_owned()];
    let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
    let loaded = with(MINIMAL, &[], &sets).unwrap();
    assert_eq!(loaded.config.listeners.len(), 1);
    assert_eq!(loaded.config.listeners[0].address, "127.0.0.1:2");
    let error = with(MINIMAL, &[], &[sets[0], "listeners.7.address=127.0.0.1:2"]).unwrap_err().to_string();
    assert!(error.contains("the list has 1 items, and none at place 7"), "{error}");
}

#[test]
fn unknown_variables_and_flags_are_errors_too() {
    let error = with(MINIMAL, &[("WEIR__TOPICS__NUM_PARTITION", "3")], &[]).unwrap_err().to_string();
    assert_eq!(
        error,
        "WEIR__TOPICS__NUM_PARTITION: unknown key `topics.num_partition`; did you mean `topics.num_partitions`?"
    );
    let error = with(MINIMAL, &[], &["topics.partitions=3"]).unwrap_err().to_string();
    assert!(error.starts_with("--set topics.partitions: unknown key"), "{error}");
    let error = with(MINIMAL, &[], &["topics.num_partitions"]).unwrap_err().to_string();
    assert!(error.contains("must be KEY=VALUE"), "{error}");
    // Other programs' variables, and our own that are no keys, do not matter.
    with(MINIMAL, &[("WEIR_TO", "quic://x"), ("PATH", "/bin")], &[]).unwrap();
}

#[test]
fn wrong_types_and_missing_keys_name_the_whole_key_and_its_place() {
    let error = refused(&format!("{MINIMAL}topics:\n  num_partitions: many\n"));
    assert!(error.starts_with("weir.yaml:9: `topics.num_partitions` is wrong: invalid type"), "{error}");
    let error = refused("version: 1\nbroker:\n  name: b1\nstaging:\n  dir: /tmp/x\n");
    assert_eq!(error, "weir.yaml: `store.url` is missing; set it here, or as WEIR__STORE__URL");
    let error = refused(&MINIMAL.replace("version: 1\n", ""));
    assert!(error.contains("`version` is missing"), "{error}");
    let error = refused(&MINIMAL.replace("version: 1", "version: 2"));
    assert_eq!(error, "weir.yaml:1: `version` is 2, and must be at most 1");
    let error = refused("version: 1\n  broken");
    assert!(error.starts_with("weir.yaml:"), "{error}");
}

#[test]
fn values_out_of_bounds_say_the_bound() {
    let error = refused(&format!("{MINIMAL}topics:\n  num_partitions: 0\n"));
    assert_eq!(error, "weir.yaml:9: `topics.num_partitions` is 0, and must be at least 1");
    let error = refused(&MINIMAL.replace("name: b1", "name: ''"));
    assert_eq!(error, "weir.yaml:3: `broker.name` must not be empty");
}

#[test]
fn keys_that_do_not_fit_each_other_are_told() {
    let told = |addition: &str, part: &str| {
        let error = refused(&format!("{MINIMAL}{addition}"));
        assert!(error.contains(part), "{error}");
    };
    let listener = |fields: &str| format!("listeners: [{{name: a, {fields}}}]\n");
    told(&listener("protocol: kafka, address: '0.0.0.0:9092'"), "say in `listeners.0.advertised`");
    told(&listener("protocol: quic, address: '127.0.0.1:9092'"), "needs a certificate; set `tls.certificate_file`");
    told(&listener("protocol: kafka, address: nowhere"), "must be HOST:PORT");
    told(&listener("protocol: http, address: '127.0.0.1:1'"), "must hold at least one");
    told(&listener("protocol: kafka, address: '127.0.0.1:1', authentication: mutual_tls"), "has no TLS");
    told("groups: {session_timeout_min_ms: 9, session_timeout_max_ms: 8}\n", "is larger than");
    told("cache: {memory_bytes: 8388608, chunk_bytes: 4194304}\n", "at least four chunks");
    let error = refused(&MINIMAL.replace("memory://", "s3://key:secret@bucket/x"));
    assert_eq!(
        error,
        "weir.yaml:5: `store.url` holds credentials; use `store.access_key_id` and `store.secret_access_key`"
    );
    let error = refused(&MINIMAL.replace("memory://", "s3://bucket?secret_access_key=hunter2"));
    assert_eq!(error, "weir.yaml:5: `store.url` holds a secret; use `store.secret_access_key`");
    let error = refused(&MINIMAL.replace("memory://", "ftp://x"));
    assert!(error.contains("unknown scheme `ftp`"), "{error}");
}

#[test]
fn secrets_are_named_never_shown() {
    let plain = format!(
        "{}  access_key_id: k\n  secret_access_key: hunter2\n",
        MINIMAL.replace("staging:\n  dir: /tmp/x\n", "")
    );
    let error = refused(&format!("{plain}staging:\n  dir: /tmp/x\n"));
    assert!(!error.contains("hunter2"), "{error}");
    assert!(
        error.contains("weir.yaml:7: `store.secret_access_key` must be `{file: PATH}` or `{env: NAME}`"),
        "{error}"
    );

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    std::fs::write(&file, "hunter2\n").unwrap();
    let sets = ["store.access_key_id=k".to_owned(), format!("store.secret_access_key.file={}", file.display())];
    let loaded = with(MINIMAL, &[], &sets.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    let secret = loaded.config.store.secret_access_key.clone().unwrap();
    assert_eq!(secret, Secret::File(file));
    assert_eq!(secret.read().unwrap().reveal(), "hunter2");
    assert!(loaded.config.store.options().unwrap().contains(&("secret_access_key".to_owned(), "hunter2".to_owned())));
    let shown = format!("{:?} {:?} {}", loaded.config, secret.read().unwrap(), yaml(&loaded).unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(Secret::Env("WEIR_TEST_NO_SUCH_VARIABLE".to_owned()).read().is_err());
}

#[test]
fn printed_yaml_is_a_configuration_file_with_the_same_values() {
    let loaded = with(MINIMAL, &[("WEIR__BROKER__ZONE", "z: 1")], &["topics.num_partitions=4"]).unwrap();
    let text = yaml(&loaded).unwrap();
    assert!(text.contains("num_partitions: 4  # flag"), "{text}");
    assert!(text.contains("zone: \"z: 1\"  # env:WEIR__BROKER__ZONE"), "{text}");
    assert_eq!(from(&text).unwrap().config, loaded.config);
}

#[test]
fn only_what_was_chosen_is_written_for_reuse() {
    let loaded = with(MINIMAL, &[], &["topics.num_partitions=4"]).unwrap();
    let chosen = super::chosen(&loaded).unwrap();
    assert_eq!(
        chosen,
        serde_json::json!({
            "version": 1, "broker": {"name": "b1"}, "store": {"url": "memory://"}, "staging": {"dir": "/tmp/x"},
            "topics": {"num_partitions": 4},
        })
    );
}

#[test]
fn every_key_has_documentation_with_its_default() {
    let mut settings = schemars::generate::SchemaSettings::draft2020_12().for_deserialize();
    settings.inline_subschemas = true;
    let root = settings.into_generator().into_root_schema_for::<Config>().to_value();
    let mut keys = 0;
    visit(&root, "", &mut keys);
    assert!(keys > 60, "only {keys} keys were visited");

    fn visit(schema: &Value, path: &str, keys: &mut usize) {
        for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
            *keys += 1;
            let path = format!("{path}.{key}");
            let text = inner["description"].as_str().unwrap_or_default().replace('\n', " ");
            let in_secret = ["file", "env"].contains(&key.as_str());
            assert!(text.len() > 15 || in_secret, "{path} has no documentation");
            let required = schema["required"].as_array().is_some_and(|list| list.iter().any(|name| name == key));
            let leaf = inner["properties"].is_null() && inner["items"].is_null() && inner["oneOf"].is_null();
            if leaf && !in_secret {
                let word = if required { "Required" } else { "Default: " };
                assert!(text.contains(word), "{path} does not say `{word}`");
            }
            visit(inner, &path, keys);
        }
        for inner in ["anyOf", "oneOf"].iter().filter_map(|name| schema[name].as_array()).flatten() {
            visit(inner, path, keys);
        }
        if schema["items"].is_object() {
            visit(&schema["items"], path, keys);
        }
    }
}

#[test]
fn documented_defaults_are_the_defaults() {
    let defaults = serde_json::to_value(from(MINIMAL).unwrap().config).unwrap();
    let mut settings = schemars::generate::SchemaSettings::draft2020_12().for_deserialize();
    settings.inline_subschemas = true;
    let root = settings.into_generator().into_root_schema_for::<Config>().to_value();
    for (section, schema) in root["properties"].as_object().unwrap() {
        for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
            let text = inner["description"].as_str().unwrap_or_default();
            let actual = &defaults[section][key];
            let Some(said) = text.split("Default:").nth(1).filter(|_| actual.is_number()) else { continue };
            // A share of the memory says so in words.
            let shares = [
                ("an eighth of", 8),
                ("half of `memory_bytes`", 16),
                ("a sixteenth of", 16),
                ("a thirty-second of", 32),
                ("a sixty-fourth of", 64),
            ];
            if let Some((_, part)) = shares.iter().find(|(words, _)| said.trim_start().starts_with(words)) {
                assert_eq!(actual, &Value::from(MEMORY / part), "{section}.{key}");
                continue;
            }
            let number: String = said.trim_start().chars().take_while(char::is_ascii_digit).collect();
            assert_eq!(number, actual.to_string(), "{section}.{key}");
        }
    }
}

#[test]
fn the_published_schema_is_one() {
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["additionalProperties"], false);
    assert!(schema["required"].as_array().unwrap().contains(&"version".into()));
    // Every reference inside it leads somewhere.
    let text = schema.to_string();
    for reference in text.split("\"$ref\":\"#/$defs/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schema["$defs"][name].is_object(), "{name}");
    }
}

#[test]
fn a_checked_configuration_has_no_problems() {
    assert!(check::check(&from(MINIMAL).unwrap().config).is_empty());
}

mod listeners {
    use crate::config::{Authentication, Listener, Protocol, split_host_port};

    fn listener(address: &str, advertised: Option<&str>) -> Listener {
        Listener {
            name: "l".to_owned(),
            protocol: Protocol::Kafka,
            address: address.to_owned(),
            advertised: advertised.map(str::to_owned),
            tls: false,
            authentication: Authentication::None,
        }
    }

    #[test]
    fn hosts_and_ports_come_apart() {
        assert_eq!(split_host_port("localhost:9092"), Some(("localhost", 9092)));
        assert_eq!(split_host_port("[::1]:9092"), Some(("::1", 9092)));
        for wrong in ["localhost", ":9092", "::1:9092", "a:b", "[::1]", "[]:1", "h:70000"] {
            assert_eq!(split_host_port(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn port_zero_is_one_socket_and_is_advertised_as_the_real_port() {
        let listener = listener("localhost:0", None);
        let addresses = listener.bind_addresses().unwrap();
        assert_eq!(addresses.len(), 1);
        let bound = "127.0.0.1:4711".parse().unwrap();
        assert_eq!(listener.advertised(bound), ("localhost".to_owned(), 4711));
    }

    #[test]
    fn the_advertised_address_wins() {
        let bound = "127.0.0.1:4711".parse().unwrap();
        assert_eq!(listener("0.0.0.0:1", Some("b1.example:9092")).advertised(bound), ("b1.example".to_owned(), 9092));
    }
}

#[test]
fn defaults_follow_from_the_memory_and_are_shown() {
    let loaded = from(MINIMAL).unwrap();
    assert_eq!(source_of(&loaded, "cache.memory_bytes"), ((MEMORY / 8).into(), "default".to_owned()));
    assert_eq!(source_of(&loaded, "limits.answers_memory_bytes"), ((MEMORY / 8).into(), "default".to_owned()));
    let loaded = from(&format!("{MINIMAL}limits:\n  requests_memory_bytes: 33554432\n")).unwrap();
    assert_eq!(source_of(&loaded, "limits.request_bytes_max"), (33_554_432.into(), "default".to_owned()));
    assert_eq!(source_of(&loaded, "limits.requests_memory_bytes"), (33_554_432.into(), "file:9".to_owned()));
    let error = refused(&format!("{MINIMAL}limits: 7\n"));
    assert!(error.contains("`limits` is wrong"), "{error}");
}
