//! What is known of the cluster: brokers, topics, leaders. A snapshot that is replaced as a whole.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;
use wire::{ErrorCode, Uuid, metadata};

use crate::{Address, Error};

/// The cluster as some broker described it.
#[derive(Debug, Clone)]
pub(crate) struct Metadata {
    pub(crate) cluster_id: Option<String>,
    pub(crate) controller: i32,
    pub(crate) brokers: HashMap<i32, Broker>,
    pub(crate) topics: HashMap<Arc<str>, Arc<Topic>>,
    /// Grows with every answer.
    pub(crate) generation: u64,
}

/// A broker at the address that it gives to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broker {
    pub(crate) address: Address,
    pub(crate) rack: Option<String>,
}

/// A topic and its partitions; the place in the list is the partition's number.
#[derive(Debug, Clone)]
pub(crate) struct Topic {
    pub(crate) id: Uuid,
    pub(crate) internal: bool,
    pub(crate) partitions: Vec<Partition>,
    pub(crate) asked_at: Instant,
}

/// A partition.
#[derive(Debug, Clone, Default)]
pub(crate) struct Partition {
    pub(crate) error: ErrorCode,
    /// −1 when there is none.
    pub(crate) leader: i32,
    pub(crate) leader_epoch: i32,
    pub(crate) replicas: Vec<i32>,
    pub(crate) in_sync: Vec<i32>,
}

impl Metadata {
    pub(crate) fn empty() -> Self {
        Self { cluster_id: None, controller: -1, brokers: HashMap::new(), topics: HashMap::new(), generation: 0 }
    }

    /// Takes over what a broker said. Topics that it says are gone are forgotten; those it was not asked for stay.
    /// Gives the errors of topics.
    pub(crate) fn apply(&mut self, response: metadata::Response, now: Instant) -> HashMap<Arc<str>, Error> {
        self.generation += 1;
        self.cluster_id = response.cluster_id.map(Into::into);
        self.controller = response.controller_id;
        self.brokers = response.brokers.into_iter().filter_map(broker).collect();
        let mut errors = HashMap::new();
        for topic in response.topics {
            let Some(name) = topic.name.as_ref().map(|name| Arc::<str>::from(&**name)) else { continue };
            if topic.error_code != 0 {
                self.topics.remove(&name);
                errors.insert(name.clone(), Error::broker(topic.error_code, format!("topic {name}")));
                continue;
            }
            self.topics.insert(name, Arc::new(Topic::of(topic, now)));
        }
        errors
    }
}

impl Topic {
    fn of(topic: metadata::MetadataResponseTopic, now: Instant) -> Self {
        let mut found = topic.partitions;
        found.sort_by_key(|partition| partition.partition_index);
        let mut partitions: Vec<Partition> = Vec::with_capacity(found.len());
        for partition in found {
            // Numbers without a gap, from 0: a broker that says otherwise is not believed beyond the gap.
            if usize::try_from(partition.partition_index) != Ok(partitions.len()) {
                break;
            }
            partitions.push(Partition {
                error: ErrorCode::from(partition.error_code),
                leader: partition.leader_id,
                leader_epoch: partition.leader_epoch,
                replicas: partition.replica_nodes,
                in_sync: partition.isr_nodes,
            });
        }
        Self { id: topic.topic_id, internal: topic.is_internal, partitions, asked_at: now }
    }

    pub(crate) fn partition(&self, number: i32) -> Option<&Partition> {
        self.partitions.get(usize::try_from(number).ok()?)
    }

    /// How many partitions there are.
    pub(crate) fn count(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }
}

fn broker(broker: metadata::MetadataResponseBroker) -> Option<(i32, Broker)> {
    let address = Address { host: broker.host.into(), port: u16::try_from(broker.port).ok()? };
    Some((broker.node_id, Broker { address, rack: broker.rack.map(Into::into) }))
}
