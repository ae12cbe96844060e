//! CreateTopics, DeleteTopics, CreatePartitions.
//!
//! A replication factor is accepted up to the number of brokers: durability does not hang on it. `validate_only` changes
//! nothing. An existing topic is reported before anything else is checked.

use std::collections::HashMap;
use std::sync::Arc;

use metadata::{Command, Configs, Refusal, Topic};
use records::TopicId;
use tokio::time::Instant;
use wire::error_code::ErrorCode;
use wire::{create_partitions, create_topics, delete_topics};

use super::error::Code;
use super::{Api, Request};

/// Why something was refused, and what to tell the client.
type Refused = (ErrorCode, String);

fn refused(error: &(impl Code + ToString)) -> Refused {
    (error.code(), error.to_string())
}

pub(super) async fn create(
    api: &Arc<Api>,
    _request: &Request,
    body: create_topics::Request,
) -> create_topics::Response {
    let mut named = HashMap::<wire::Text, usize>::new();
    for topic in &body.topics {
        *named.entry(topic.name.clone()).or_default() += 1;
    }
    let deadline = super::deadline(body.timeout_ms);
    let mut topics = Vec::with_capacity(named.len());
    for topic in body.topics {
        // A name that is there twice is refused once.
        match named.remove(&topic.name) {
            Some(1) => topics.push(create_one(api, topic, body.validate_only, deadline).await),
            Some(_) => topics.push(create_topics::CreatableTopicResult {
                error_code: ErrorCode::INVALID_REQUEST.code(),
                error_message: Some("the request names this topic more than once".into()),
                name: topic.name,
                num_partitions: -1,
                replication_factor: -1,
                ..Default::default()
            }),
            None => {}
        }
    }
    create_topics::Response { topics, ..Default::default() }
}

async fn create_one(
    api: &Arc<Api>,
    topic: create_topics::CreatableTopic,
    validate_only: bool,
    deadline: Instant,
) -> create_topics::CreatableTopicResult {
    let name = topic.name.clone();
    match try_create(api, topic, validate_only, deadline).await {
        Ok((id, partitions, replication_factor, configs)) => {
            let configs =
                super::configs::of_topic(api, &configs).into_iter().map(|entry| create_topics::CreatableTopicConfigs {
                    name: entry.key.name.into(),
                    value: Some(entry.value.into()),
                    read_only: false,
                    config_source: entry.source.kafka_code(),
                    is_sensitive: false,
                    ..Default::default()
                });
            create_topics::CreatableTopicResult {
                name,
                topic_id: id.0,
                num_partitions: partitions,
                replication_factor,
                configs: Some(configs.collect()),
                ..Default::default()
            }
        }
        Err((code, message)) => create_topics::CreatableTopicResult {
            name,
            error_code: code.code(),
            error_message: Some(message.into()),
            num_partitions: -1,
            replication_factor: -1,
            ..Default::default()
        },
    }
}

async fn try_create(
    api: &Arc<Api>,
    topic: create_topics::CreatableTopic,
    validate_only: bool,
    deadline: Instant,
) -> Result<(TopicId, i32, i16, Configs), Refused> {
    let image = api.metadata.image();
    if image.topic(&topic.name).is_some() {
        return Err((ErrorCode::TOPIC_ALREADY_EXISTS, format!("topic '{}' exists already", topic.name)));
    }
    let brokers = i16::try_from(image.brokers.len()).unwrap_or(i16::MAX);
    let (partitions, replication_factor) = if topic.assignments.is_empty() {
        (topic.num_partitions, topic.replication_factor)
    } else {
        assigned(&image, &topic)?
    };
    let partitions = if partitions == -1 { api.settings.num_partitions } else { partitions };
    if partitions < 1 {
        return Err((ErrorCode::INVALID_PARTITIONS, "a topic has at least one partition".into()));
    }
    let replication_factor = match replication_factor {
        -1 => api.settings.default_replication_factor,
        1.. if replication_factor <= brokers || api.settings.replication_factor_lenient => replication_factor,
        1.. => {
            let message = format!("replication factor {replication_factor} is more than there are brokers ({brokers})");
            return Err((ErrorCode::INVALID_REPLICATION_FACTOR, message));
        }
        _ => return Err((ErrorCode::INVALID_REPLICATION_FACTOR, "a replication factor is at least 1, or -1".into())),
    };
    let mut configs = Configs::new();
    for config in topic.configs {
        if let Some(value) = config.value {
            configs.insert(config.name.to_string(), value.to_string());
        }
    }
    let count = u32::try_from(partitions).map_err(|_| (ErrorCode::INVALID_PARTITIONS, "too many partitions".into()))?;
    let id = TopicId(api.random.uuid());
    let create = Command::CreateTopic {
        name: topic.name.to_string(),
        id,
        partitions: count,
        configs: configs.clone(),
        at: api.clock.now(),
    };
    if validate_only {
        metadata::check(&image, &create).map_err(|refusal| refused(&refusal))?;
        return Ok((TopicId::default(), partitions, replication_factor, configs));
    }
    api.metadata.submit_until(create, deadline).await.map_err(|error| refused(&error))?;
    tracing::info!(topic = %topic.name, partitions, "topic created");
    Ok((id, partitions, replication_factor, configs))
}

/// Manual assignments are taken for what they say about numbers: partitions 0..n, each on existing brokers.
fn assigned(image: &metadata::Image, topic: &create_topics::CreatableTopic) -> Result<(i32, i16), Refused> {
    let invalid = |what: &str| (ErrorCode::INVALID_REPLICA_ASSIGNMENT, what.to_owned());
    if topic.num_partitions != -1 || topic.replication_factor != -1 {
        return Err((ErrorCode::INVALID_REQUEST, "either assignments or numbers, not both".into()));
    }
    let mut indexes: Vec<i32> = topic.assignments.iter().map(|assignment| assignment.partition_index).collect();
    indexes.sort_unstable();
    if !indexes.iter().copied().eq((0..).take(indexes.len())) {
        return Err(invalid("partitions must be 0, 1, 2 and so on, each once"));
    }
    let replicas = topic.assignments[0].broker_ids.len();
    for assignment in &topic.assignments {
        let mut ids = assignment.broker_ids.clone();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() != assignment.broker_ids.len() || ids.is_empty() || ids.len() != replicas {
            return Err(invalid("each partition needs the same number of brokers, each of them once"));
        }
        if ids.iter().any(|id| !image.brokers.contains_key(&(*id).into())) {
            return Err(invalid("there is no such broker"));
        }
    }
    let partitions = i32::try_from(indexes.len()).map_err(|_| invalid("too many partitions"))?;
    Ok((partitions, i16::try_from(replicas).map_err(|_| invalid("too many brokers"))?))
}

pub(super) async fn delete(api: &Arc<Api>, request: &Request, body: delete_topics::Request) -> delete_topics::Response {
    let mut asked: Vec<(Option<wire::Text>, uuid::Uuid)> =
        body.topics.into_iter().map(|topic| (topic.name, topic.topic_id)).collect();
    if request.version() < 6 {
        asked = body.topic_names.into_iter().map(|name| (Some(name), uuid::Uuid::nil())).collect();
    }
    let deadline = super::deadline(body.timeout_ms);
    let mut responses = Vec::with_capacity(asked.len());
    for (name, topic_id) in asked {
        let image = api.metadata.image();
        let topic = super::topic_of(&image, name.as_deref().unwrap_or_default(), topic_id);
        let (error, topic) = match topic {
            Ok(topic) => (delete_one(api, &topic, deadline).await.err(), Some(topic)),
            Err(code) => (Some((code, "there is no such topic".to_owned())), None),
        };
        responses.push(delete_topics::DeletableTopicResult {
            name: name.or_else(|| topic.as_ref().map(|topic| (&*topic.name).into())),
            topic_id: topic.map_or(topic_id, |topic| topic.id.0),
            error_code: error.as_ref().map_or(0, |(code, _)| code.code()),
            error_message: error.map(|(_, message)| message.into()),
            ..Default::default()
        });
    }
    delete_topics::Response { responses, ..Default::default() }
}

async fn delete_one(api: &Arc<Api>, topic: &Topic, deadline: Instant) -> Result<(), Refused> {
    if topic.internal {
        return Err((ErrorCode::TOPIC_AUTHORIZATION_FAILED, "the cluster needs this topic".into()));
    }
    api.metadata
        .submit_until(Command::DeleteTopic { id: topic.id, at: api.clock.now() }, deadline)
        .await
        .map_err(|error| refused(&error))?;
    api.log.refresh();
    tracing::info!(topic = %topic.name, "topic deleted");
    api.coordinator.topic_deleted(&topic.name).await;
    Ok(())
}

pub(super) async fn create_partitions(
    api: &Arc<Api>,
    _request: &Request,
    body: create_partitions::Request,
) -> create_partitions::Response {
    let deadline = super::deadline(body.timeout_ms);
    let mut results = Vec::with_capacity(body.topics.len());
    for topic in body.topics {
        let error = grow(api, &topic, body.validate_only, deadline).await.err();
        results.push(create_partitions::CreatePartitionsTopicResult {
            name: topic.name,
            error_code: error.as_ref().map_or(0, |(code, _)| code.code()),
            error_message: error.map(|(_, message)| message.into()),
            ..Default::default()
        });
    }
    create_partitions::Response { results, ..Default::default() }
}

async fn grow(
    api: &Arc<Api>,
    asked: &create_partitions::CreatePartitionsTopic,
    validate_only: bool,
    deadline: Instant,
) -> Result<(), Refused> {
    let image = api.metadata.image();
    let unknown = || (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic".to_owned());
    let topic = image.topic(&asked.name).ok_or_else(unknown)?;
    let now = topic.partitions.len();
    let total = usize::try_from(asked.count).unwrap_or(0);
    if total <= now {
        let message = format!("the topic has {now} partitions: their number can only grow");
        return Err((ErrorCode::INVALID_PARTITIONS, message));
    }
    if let Some(assignments) = &asked.assignments
        && assignments.len() != total - now
    {
        let message = format!("{} assignments for {} new partitions", assignments.len(), total - now);
        return Err((ErrorCode::INVALID_REPLICA_ASSIGNMENT, message));
    }
    let too_many = |_| (ErrorCode::INVALID_PARTITIONS, "too many partitions".to_owned());
    let command = Command::CreatePartitions { topic: topic.id, total: u32::try_from(total).map_err(too_many)? };
    if validate_only {
        return metadata::check(&image, &command).map(|_| ()).map_err(|refusal| refused(&refusal));
    }
    api.metadata.submit_until(command, deadline).await.map(|_| ()).map_err(|error| refused(&error))
}

impl Code for Refusal {
    fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownTopic(_) | Self::UnknownPartition(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            Self::TopicExists { .. } => ErrorCode::TOPIC_ALREADY_EXISTS,
            Self::TopicCollision { .. } | Self::InvalidTopicName(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
            Self::InvalidPartitions(_) => ErrorCode::INVALID_PARTITIONS,
            Self::InvalidConfig(_) => ErrorCode::INVALID_CONFIG,
            Self::OffsetOutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
            Self::LimitReached { .. } => ErrorCode::POLICY_VIOLATION,
            Self::NoOpenJournal => ErrorCode::LEADER_NOT_AVAILABLE,
            Self::UnknownBroker(_) => ErrorCode::BROKER_NOT_AVAILABLE,
            Self::StaleIncarnation { .. } | Self::StaleEpoch { .. } => ErrorCode::STALE_BROKER_EPOCH,
            Self::UnknownJournal(_)
            | Self::JournalEnded { .. }
            | Self::WrongFrontier { .. }
            | Self::NotContiguous { .. }
            | Self::Invalid(_) => ErrorCode::INVALID_REQUEST,
        }
    }
}
