//! DescribeConfigs, AlterConfigs, IncrementalAlterConfigs, ListConfigResources: over the one table of keys that the
//! metadata keeps.

use std::collections::BTreeMap;
use std::sync::Arc;

use metadata::topic_config::{self, BrokerLayers, ConfigValue};
use metadata::{Command, ConfigChange, ConfigOp, Configs, broker_config};
use wire::error_code::ErrorCode;
use wire::{alter_configs, describe_configs, incremental_alter_configs, list_config_resources};

use super::error::Code;
use super::{Api, Request};

/// Kafka's numbers of kinds of resources.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// How long a change of the configuration is waited for: clients do not say.
const CHANGE_TIMEOUT_MS: i32 = 20_000;

/// Why a resource was refused, and what to tell the client.
type Refused = (ErrorCode, String);

/// All keys of a topic with these values set on it.
pub(super) fn of_topic(api: &Api, set: &Configs) -> Vec<ConfigValue> {
    with_layers(api, Some(api.broker), |layers| topic_config::describe(set, layers))
}

/// Calls with what was set on a broker (or on none in particular), on all, and in the file.
fn with_layers<T>(api: &Api, broker: Option<records::BrokerId>, use_layers: impl FnOnce(BrokerLayers<'_>) -> T) -> T {
    let image = api.metadata.image();
    let none = Configs::new();
    let set = |of: Option<records::BrokerId>| image.broker_configs.get(&of).map(AsRef::as_ref);
    let broker = broker.and_then(|broker| set(Some(broker)));
    use_layers(BrokerLayers {
        broker: broker.unwrap_or(&none),
        cluster: set(None).unwrap_or(&none),
        file: &api.settings.file_configs,
    })
}

pub(super) async fn describe(
    api: &Arc<Api>,
    _request: &Request,
    body: describe_configs::Request,
) -> describe_configs::Response {
    use describe_configs::{DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym, Response};
    let results = body.resources.into_iter().map(|resource| {
        let mut result = DescribeConfigsResult {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            ..Default::default()
        };
        match entries(api, resource.resource_type, &resource.resource_name) {
            Ok(entries) => {
                let wanted = |entry: &ConfigValue| match resource.configuration_keys.as_deref() {
                    Some([]) | None => true,
                    Some(keys) => keys.iter().any(|key| **key == *entry.key.name),
                };
                let configs = entries.into_iter().filter(wanted).map(|entry| DescribeConfigsResourceResult {
                    name: entry.key.name.into(),
                    value: Some(entry.value.into()),
                    read_only: entry.key.read_only,
                    config_source: entry.source.kafka_code(),
                    is_sensitive: false,
                    synonyms: if body.include_synonyms {
                        let synonyms = entry.synonyms.into_iter().map(|(name, value, source)| DescribeConfigsSynonym {
                            name: name.into(),
                            value: Some(value.into()),
                            source: source.kafka_code(),
                            ..Default::default()
                        });
                        synonyms.collect()
                    } else {
                        Vec::new()
                    },
                    config_type: entry.key.kind.kafka_type(),
                    documentation: body.include_documentation.then(|| entry.key.documentation.into()),
                    ..Default::default()
                });
                result.configs = configs.collect();
            }
            Err((code, message)) => {
                result.error_code = code.code();
                result.error_message = Some(message.into());
            }
        }
        result
    });
    Response { results: results.collect(), ..Default::default() }
}

fn entries(api: &Api, kind: i8, name: &str) -> Result<Vec<ConfigValue>, Refused> {
    let image = api.metadata.image();
    match kind {
        TOPIC => {
            let topic = image.topic(name).ok_or_else(unknown_topic)?;
            Ok(of_topic(api, &topic.configs))
        }
        BROKER => {
            let broker = broker_of(api, name)?;
            Ok(with_layers(api, broker, broker_config::describe))
        }
        _ => Err(unsupported_kind()),
    }
}

fn unknown_topic() -> Refused {
    (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic".into())
}

fn unsupported_kind() -> Refused {
    (ErrorCode::INVALID_REQUEST, "only topics and brokers have configurations".into())
}

/// A broker by its number; the empty name is all of them.
fn broker_of(api: &Api, name: &str) -> Result<Option<records::BrokerId>, Refused> {
    if name.is_empty() {
        return Ok(None);
    }
    match name.parse().map(records::BrokerId) {
        Ok(id) if api.metadata.image().brokers.contains_key(&id) => Ok(Some(id)),
        Ok(_) => Err((ErrorCode::BROKER_NOT_AVAILABLE, format!("there is no broker {name}"))),
        Err(_) => Err((ErrorCode::INVALID_REQUEST, format!("'{name}' is no broker id"))),
    }
}

pub(super) async fn alter(api: &Arc<Api>, _request: &Request, body: alter_configs::Request) -> alter_configs::Response {
    use alter_configs::{AlterConfigsResourceResponse, Response};
    let mut responses = Vec::with_capacity(body.resources.len());
    for resource in body.resources {
        let changes = resource.configs.into_iter().map(|config| ConfigChange {
            key: config.name.to_string(),
            op: config.value.map_or(ConfigOp::Delete, |value| ConfigOp::Set(value.to_string())),
        });
        let done =
            change(api, resource.resource_type, &resource.resource_name, changes.collect(), true, body.validate_only)
                .await;
        let (code, message) = outcome(done);
        responses.push(AlterConfigsResourceResponse {
            error_code: code,
            error_message: message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
            ..Default::default()
        });
    }
    Response { responses, ..Default::default() }
}

pub(super) async fn incremental_alter(
    api: &Arc<Api>,
    _request: &Request,
    body: incremental_alter_configs::Request,
) -> incremental_alter_configs::Response {
    use incremental_alter_configs::{AlterConfigsResourceResponse, Response};
    let mut responses = Vec::with_capacity(body.resources.len());
    for resource in body.resources {
        let changes: Result<Vec<_>, Refused> = resource
            .configs
            .into_iter()
            .map(|config| {
                let value = || {
                    let missing = || (ErrorCode::INVALID_REQUEST, format!("'{}' has no value", config.name));
                    config.value.as_ref().map(ToString::to_string).ok_or_else(missing)
                };
                // Kafka's numbers of operations (KIP-339).
                let op = match config.config_operation {
                    0 => ConfigOp::Set(value()?),
                    1 => ConfigOp::Delete,
                    2 => ConfigOp::Append(value()?),
                    3 => ConfigOp::Subtract(value()?),
                    other => return Err((ErrorCode::INVALID_REQUEST, format!("there is no operation {other}"))),
                };
                Ok(ConfigChange { key: config.name.to_string(), op })
            })
            .collect();
        let done = match changes {
            Ok(changes) => {
                change(api, resource.resource_type, &resource.resource_name, changes, false, body.validate_only).await
            }
            Err(refused) => Err(refused),
        };
        let (code, message) = outcome(done);
        responses.push(AlterConfigsResourceResponse {
            error_code: code,
            error_message: message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
            ..Default::default()
        });
    }
    Response { responses, ..Default::default() }
}

fn outcome(done: Result<(), Refused>) -> (i16, Option<wire::Text>) {
    match done {
        Ok(()) => (ErrorCode::NONE.code(), None),
        Err((code, message)) => (code.code(), Some(message.into())),
    }
}

async fn change(
    api: &Arc<Api>,
    kind: i8,
    name: &str,
    changes: Vec<ConfigChange>,
    replace: bool,
    validate_only: bool,
) -> Result<(), Refused> {
    let mut keys: Vec<_> = changes.iter().map(|change| &change.key).collect();
    keys.sort_unstable();
    if let Some(twice) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err((ErrorCode::INVALID_REQUEST, format!("'{}' is changed twice", twice[0])));
    }
    let image = api.metadata.image();
    let command = match kind {
        TOPIC => {
            let topic = image.topic(name).ok_or_else(unknown_topic)?.id;
            Command::AlterTopicConfigs { topic, changes, replace }
        }
        BROKER => Command::AlterBrokerConfigs { broker: broker_of(api, name)?, changes, replace },
        _ => return Err(unsupported_kind()),
    };
    if validate_only {
        return metadata::check(&image, &command).map(|_| ()).map_err(|refusal| (refusal.code(), refusal.to_string()));
    }
    api.metadata
        .submit_until(command, super::deadline(CHANGE_TIMEOUT_MS))
        .await
        .map(|_| ())
        .map_err(|error| (error.code(), error.to_string()))
}

pub(super) async fn list_resources(
    api: &Arc<Api>,
    request: &Request,
    body: list_config_resources::Request,
) -> list_config_resources::Response {
    use list_config_resources::{ConfigResource, Response};
    /// What version 0 asked for, the only thing it could: client metrics, of which there are none.
    const CLIENT_METRICS: i8 = 16;
    let image = api.metadata.image();
    let kinds = match request.version() {
        0 => vec![CLIENT_METRICS],
        _ if body.resource_types.is_empty() => vec![TOPIC, BROKER],
        _ => body.resource_types,
    };
    let mut resources = BTreeMap::new();
    for kind in kinds {
        match kind {
            TOPIC => resources.extend(image.by_name.keys().map(|name| ((kind, name.to_string()), ()))),
            BROKER => resources.extend(image.brokers.keys().map(|id| ((kind, id.to_string()), ()))),
            CLIENT_METRICS => {}
            _ => {
                return Response { error_code: ErrorCode::UNSUPPORTED_VERSION.code(), ..Default::default() };
            }
        }
    }
    let config_resources = resources.into_keys().map(|(resource_type, name)| ConfigResource {
        resource_name: name.into(),
        resource_type,
        ..Default::default()
    });
    Response { config_resources: config_resources.collect(), ..Default::default() }
}
