//! Metadata: brokers, topics, partitions and who leads them.
//!
//! A topic is made only when it is asked for by name and the request allows it, and then it is answered as made: a new
//! client's first produce need not wait for a second round. Clients see only addresses of the listener they came through.

use std::sync::Arc;

use metadata::{Command, Image, Refusal, SubmitError, Topic};
use records::TopicId;
use wire::error_code::ErrorCode;
use wire::metadata::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic, Request, Response};

use super::Api;
use super::error::Code;

/// "Not asked for": the sets of allowed operations are not computed yet.
pub(super) const OPERATIONS_UNKNOWN: i32 = i32::MIN;

pub(super) async fn answer(api: &Arc<Api>, request: &super::Request, body: Request) -> Response {
    let everything = match &body.topics {
        None => true,
        Some(topics) => request.version() == 0 && topics.is_empty(),
    };
    let mut topics = Vec::new();
    if everything {
        let image = api.metadata.image();
        topics.extend(image.topics.values().map(|topic| describe(topic)));
        topics.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    } else {
        for asked in body.topics.into_iter().flatten() {
            topics.push(match asked.name {
                // Ids came with version 10, and can be asked for from 12 on.
                Some(name) if asked.topic_id.is_nil() || request.version() < 12 => {
                    by_name(api, name, request.version() < 4 || body.allow_auto_topic_creation).await
                }
                _ => by_id(&api.metadata.image(), asked.topic_id, request.version()),
            });
        }
    }
    Response {
        brokers: brokers(api, request),
        cluster_id: Some(cluster_id(&api.metadata.image()).into()),
        controller_id: api.broker.0,
        topics,
        cluster_authorized_operations: OPERATIONS_UNKNOWN,
        ..Response::default()
    }
}

/// The cluster's id as Kafka writes ids: 22 characters of URL-safe base64.
pub(super) fn cluster_id(image: &Image) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = image.cluster_id.as_u128();
    // 128 bits are 21 digits of 6 bits and one of 2, which is filled up with zeros.
    (0..22)
        .map(|digit| {
            let index = if digit < 21 { bits >> (122 - 6 * digit) } else { bits << 4 } & 63;
            char::from(DIGITS[usize::try_from(index).expect("six bits")])
        })
        .collect()
}

fn brokers(api: &Api, request: &super::Request) -> Vec<MetadataResponseBroker> {
    let advertised = request.context.advertised();
    let zone = api.metadata.image().brokers.get(&api.broker).map(|broker| broker.zone.clone());
    vec![MetadataResponseBroker {
        node_id: api.broker.0,
        host: advertised.host.as_str().into(),
        port: i32::from(advertised.port),
        rack: zone.filter(|zone| !zone.is_empty()).map(Into::into),
        ..Default::default()
    }]
}

fn by_id(image: &Image, id: uuid::Uuid, version: i16) -> MetadataResponseTopic {
    match image.topics.get(&TopicId(id)) {
        Some(topic) => describe(topic),
        None => MetadataResponseTopic {
            error_code: ErrorCode::UNKNOWN_TOPIC_ID.code(),
            name: (version < 12).then(wire::Text::default),
            topic_id: id,
            topic_authorized_operations: OPERATIONS_UNKNOWN,
            ..Default::default()
        },
    }
}

async fn by_name(api: &Arc<Api>, name: wire::Text, may_create: bool) -> MetadataResponseTopic {
    if let Some(topic) = api.metadata.image().topic(&name) {
        return describe(topic);
    }
    let refused = |code: ErrorCode| MetadataResponseTopic {
        error_code: code.code(),
        name: Some(name.clone()),
        topic_authorized_operations: OPERATIONS_UNKNOWN,
        ..Default::default()
    };
    if let Err(refusal) = metadata::check_topic_name(&name) {
        return refused(refusal.code());
    }
    if !may_create || !api.settings.auto_create_topics {
        return refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
    let partitions = u32::try_from(api.settings.num_partitions).unwrap_or(1);
    let create = Command::CreateTopic {
        name: name.to_string(),
        id: TopicId(api.random.uuid()),
        partitions,
        configs: metadata::Configs::default(),
        at: api.clock.now(),
    };
    match api.metadata.submit(create).await {
        Ok(_) => tracing::info!(topic = %name, partitions, "topic created on first use"),
        // Somebody else was first: just as well.
        Err(SubmitError::Refused(Refusal::TopicExists { .. })) => {}
        Err(error) => {
            tracing::warn!(topic = %name, %error, "a topic could not be created on first use");
            return refused(error.code());
        }
    }
    match api.metadata.image().topic(&name) {
        Some(topic) => describe(topic),
        None => refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    }
}

fn describe(topic: &Topic) -> MetadataResponseTopic {
    let partitions = topic.partitions.iter().zip(0..).map(|(state, partition_index)| MetadataResponsePartition {
        partition_index,
        leader_id: state.leader.0,
        leader_epoch: state.leader_epoch.0,
        replica_nodes: vec![state.leader.0],
        isr_nodes: vec![state.leader.0],
        ..Default::default()
    });
    MetadataResponseTopic {
        name: Some((&*topic.name).into()),
        topic_id: topic.id.0,
        is_internal: topic.internal,
        partitions: partitions.collect(),
        topic_authorized_operations: OPERATIONS_UNKNOWN,
        ..Default::default()
    }
}
