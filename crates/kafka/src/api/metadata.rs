//! Metadata: brokers, topics, partitions and who leads them.
//!
//! A topic is made only when it is asked for by name and the request allows it, and then it is answered as made: a new
//! client's first produce need not wait for a second round. Clients see only addresses of the listener they came through.

use std::sync::Arc;

use metadata::{Broker, Command, Image, PartitionState, Refusal, SubmitError, Topic};
use records::{BrokerId, TopicId};
use tokio::time::Instant;
use wire::Text;
use wire::error_code::ErrorCode;
use wire::metadata::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic, Request, Response};

use super::Api;
use super::error::Code;
use crate::Context;

/// How long topics that are made on first use are waited for, all together: clients do not say.
const CREATE_TIMEOUT_MS: i32 = 10_000;
/// What clients take for "no leader at the moment".
const NO_LEADER: i32 = -1;
/// "Not asked for": the sets of allowed operations are not computed yet.
pub(super) const OPERATIONS_UNKNOWN: i32 = i32::MIN;

pub(super) async fn answer(api: &Arc<Api>, request: &super::Request, body: Request) -> Response {
    let everything = match &body.topics {
        None => true,
        Some(topics) => request.version() == 0 && topics.is_empty(),
    };
    let deadline = super::deadline(CREATE_TIMEOUT_MS);
    let mut topics = Vec::new();
    if everything {
        let image = api.metadata.image();
        topics.extend(image.topics.values().map(|topic| describe(api, &image, topic)));
        topics.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    } else {
        for asked in body.topics.into_iter().flatten() {
            topics.push(match asked.name {
                // Ids came with version 10, and can be asked for from 12 on.
                Some(name) if asked.topic_id.is_nil() || request.version() < 12 => {
                    by_name(api, name, request.version() < 4 || body.allow_auto_topic_creation, deadline).await
                }
                _ => by_id(api, asked.topic_id, request.version()),
            });
        }
    }
    Response {
        brokers: brokers(api, &api.metadata.image(), &request.context).into_iter().map(Into::into).collect(),
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

/// A broker as clients of one listener see it.
pub(super) struct Node {
    pub(super) id: BrokerId,
    pub(super) host: Text,
    pub(super) port: u16,
    pub(super) rack: Option<Text>,
}

impl From<Node> for MetadataResponseBroker {
    fn from(node: Node) -> Self {
        let Node { id, host, port, rack } = node;
        Self { node_id: id.0, host, port: i32::from(port), rack, ..Self::default() }
    }
}

/// The brokers that a client of this connection can use: those that live, where they say that they listen under the same
/// name. This one is where the client came through.
pub(super) fn brokers(api: &Api, image: &Image, context: &Context) -> Vec<Node> {
    image.brokers.values().filter_map(|broker| node(api, broker, context)).collect()
}

/// One broker, if a client of this connection can use it.
pub(super) fn node(api: &Api, broker: &Broker, context: &Context) -> Option<Node> {
    let rack = Some(&*broker.zone).filter(|zone| !zone.is_empty()).map(Into::into);
    if broker.id == api.broker {
        let advertised = context.advertised();
        return Some(Node { id: broker.id, host: advertised.host.as_str().into(), port: advertised.port, rack });
    }
    let endpoint = broker.endpoints.iter().find(|endpoint| *endpoint.listener == *context.listener_name())?;
    (!broker.fenced).then(|| Node { id: broker.id, host: endpoint.host.as_str().into(), port: endpoint.port, rack })
}

/// The leader that clients are told of a partition, and an error where there is none at the moment.
pub(super) fn leader(api: &Api, image: &Image, state: &PartitionState) -> (i32, ErrorCode) {
    let lives = image.brokers.get(&state.leader).is_some_and(|broker| !broker.fenced);
    match lives || state.leader == api.broker {
        true => (state.leader.0, ErrorCode::NONE),
        false => (NO_LEADER, ErrorCode::LEADER_NOT_AVAILABLE),
    }
}

fn by_id(api: &Api, id: uuid::Uuid, version: i16) -> MetadataResponseTopic {
    let image = api.metadata.image();
    match image.topics.get(&TopicId(id)) {
        Some(topic) => describe(api, &image, topic),
        None => MetadataResponseTopic {
            error_code: ErrorCode::UNKNOWN_TOPIC_ID.code(),
            name: (version < 12).then(Text::default),
            topic_id: id,
            topic_authorized_operations: OPERATIONS_UNKNOWN,
            ..Default::default()
        },
    }
}

async fn by_name(api: &Arc<Api>, name: Text, may_create: bool, deadline: Instant) -> MetadataResponseTopic {
    let image = api.metadata.image();
    if let Some(topic) = image.topic(&name) {
        return describe(api, &image, topic);
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
    match api.metadata.submit_until(create, deadline).await {
        Ok(_) => tracing::info!(topic = %name, partitions, "topic created on first use"),
        // Somebody else was first: just as well.
        Err(SubmitError::Refused(Refusal::TopicExists { .. })) => {}
        Err(error) => {
            tracing::warn!(topic = %name, %error, "a topic could not be created on first use");
            return refused(error.code());
        }
    }
    let image = api.metadata.image();
    match image.topic(&name) {
        Some(topic) => describe(api, &image, topic),
        None => refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    }
}

fn describe(api: &Api, image: &Image, topic: &Topic) -> MetadataResponseTopic {
    let partitions = topic.partitions.iter().zip(0..).map(|(state, partition_index)| {
        let (leader_id, error) = leader(api, image, state);
        MetadataResponsePartition {
            error_code: error.code(),
            partition_index,
            leader_id,
            leader_epoch: state.leader_epoch.0,
            replica_nodes: vec![state.leader.0],
            isr_nodes: vec![state.leader.0],
            ..Default::default()
        }
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
