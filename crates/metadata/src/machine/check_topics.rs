//! The rules of topics, partitions and configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use records::{BrokerId, LeaderEpoch, Offset, Partition, Timestamp, TopicId, TopicPartition};

use super::Change;
use super::check::{Checked, invalid};
use super::command::{ConfigChange, ConfigOp, Refusal, Reply};
use super::image::{Configs, DeletedTopic, EpochStart, Image, Journal, JournalState, PartitionState, Topic};
use super::names::{check_topic_name, collision};
use crate::config_value::{ConfigKey, append, subtract};
use crate::{broker_config, topic_config};

fn find(image: &Image, id: TopicId) -> Result<&Arc<Topic>, Refusal> {
    image.topics.get(&id).ok_or(Refusal::UnknownTopic(id))
}

pub(super) fn create(
    image: &Image,
    name: &str,
    id: TopicId,
    partitions: u32,
    configs: &Configs,
    at: Timestamp,
) -> Checked {
    // That it exists comes before any other fault.
    if let Some(known) = image.topic(name) {
        return if known.id == id {
            Ok((Reply::TopicCreated { id }, Vec::new()))
        } else {
            Err(Refusal::TopicExists { name: name.to_owned(), id: known.id })
        };
    }
    check_topic_name(name)?;
    if let Some(existing) = collision(image, name) {
        return Err(Refusal::TopicCollision { name: name.to_owned(), existing: existing.to_owned() });
    }
    if id.0.is_nil() || image.topics.contains_key(&id) || image.deleted.contains_key(&id) {
        return invalid(format!("topic id {id} cannot be used: a fresh random one is needed"));
    }
    if image.topics.len() >= image.limits.topics_max {
        return Err(Refusal::LimitReached { what: "topics", limit: image.limits.topics_max });
    }
    for (key, value) in configs {
        check_value(topic_config::find(key), key, value)?;
    }
    let mut changes =
        vec![Change::PutTopic { id, name: name.into(), configs: Arc::new(configs.clone()), created_at: at }];
    add_partitions(image, id, 0, partitions, &mut changes)?;
    Ok((Reply::TopicCreated { id }, changes))
}

pub(super) fn create_partitions(image: &Image, id: TopicId, total: u32) -> Checked {
    let topic = find(image, id)?;
    let current = u32::try_from(topic.partitions.len()).expect("partitions_max is far below 2^32");
    if total <= current {
        return Err(Refusal::InvalidPartitions(format!(
            "topic '{}' has {current} partitions; their number can only grow, not become {total}",
            topic.name
        )));
    }
    let mut changes = Vec::new();
    add_partitions(image, id, current, total, &mut changes)?;
    Ok((Reply::Done, changes))
}

/// Makes the partitions `from..to` of a topic, spread over the open journals.
fn add_partitions(image: &Image, id: TopicId, from: u32, to: u32, changes: &mut Vec<Change>) -> Result<(), Refusal> {
    if to == 0 {
        return Err(Refusal::InvalidPartitions("a topic has at least 1 partition".into()));
    }
    let added = to - from;
    let wanted = image.partition_count.saturating_add(usize::try_from(added).unwrap_or(usize::MAX));
    if wanted > image.limits.partitions_max {
        return Err(Refusal::LimitReached { what: "partitions", limit: image.limits.partitions_max });
    }
    let journals = open_journals(image);
    if journals.is_empty() {
        return Err(Refusal::NoOpenJournal);
    }
    let turn = image.partition_count;
    changes.reserve(usize::try_from(added).unwrap_or(0));
    for (nth, partition) in (from..to).enumerate() {
        let journal = journals[(turn + nth) % journals.len()];
        let partition = Partition(i32::try_from(partition).expect("partitions_max is far below 2^31"));
        let first = EpochStart { epoch: FIRST_EPOCH, start: Offset(0), journal: journal.id, after_loss: false };
        let state = PartitionState {
            leader: journal.owner,
            leader_epoch: FIRST_EPOCH,
            epochs: vec![first],
            journal: journal.id,
            log_start: Offset(0),
            frontier: Offset(0),
            bytes: 0,
        };
        changes.push(Change::PutPartition(TopicPartition { topic: id, partition }, Arc::new(state)));
    }
    Ok(())
}

/// 0 and −1 mean "unknown" to some clients.
const FIRST_EPOCH: LeaderEpoch = LeaderEpoch(1);

/// The newest open journal of the current incarnation of each broker that is heard from.
fn open_journals(image: &Image) -> Vec<&Journal> {
    let mut newest: BTreeMap<BrokerId, &Journal> = BTreeMap::new();
    for journal in image.journals.values() {
        let owner = image.brokers.get(&journal.owner);
        let serves = owner.is_some_and(|owner| owner.incarnation == journal.incarnation && !owner.fenced);
        if serves && journal.state == JournalState::Open {
            newest.insert(journal.owner, journal);
        }
    }
    newest.into_values().collect()
}

pub(super) fn delete(image: &Image, id: TopicId, at: Timestamp) -> Checked {
    if image.deleted.contains_key(&id) {
        return Ok((Reply::Done, Vec::new()));
    }
    let topic = find(image, id)?;
    let partitions = u32::try_from(topic.partitions.len()).expect("partitions_max is far below 2^32");
    let mut changes: Vec<Change> = image
        .trims
        .range(TopicPartition { topic: id, partition: Partition(0) }..)
        .take_while(|trim| trim.topic == id)
        .map(|trim| Change::EndTrim(*trim))
        .collect();
    changes.push(Change::DeleteTopic { id, partitions });
    changes.push(Change::PutDeleted(id, DeletedTopic { partitions, at }));
    Ok((Reply::Done, changes))
}

pub(super) fn set_log_start(image: &Image, of: TopicPartition, offset: Offset) -> Checked {
    let topic = find(image, of.topic)?;
    let state = topic.partition(of.partition).ok_or(Refusal::UnknownPartition(of))?;
    if offset <= state.log_start {
        return Ok((Reply::Done, Vec::new()));
    }
    if offset > state.assign_limit() {
        return Err(Refusal::OffsetOutOfRange { topic_partition: of, offset });
    }
    let mut moved = PartitionState { log_start: offset, ..(**state).clone() };
    // Epochs that end below everything that is kept, or still to be uploaded, are not asked for any more.
    if let Some(first) = moved.epoch_of(offset.min(moved.frontier)) {
        moved.epochs.drain(..first);
    }
    Ok((Reply::Done, vec![Change::PutPartition(of, Arc::new(moved)), Change::PutTrim(of)]))
}

/// What the partition is once extents with so many bytes, all below its log start, are removed; nothing when it is gone.
pub(crate) fn swept(image: &Image, of: TopicPartition, bytes: u64) -> Option<Change> {
    let state = image.partition(of)?;
    // Retention by size is all that counts on it: a number that is too small keeps too much, and stops nobody.
    let bytes = state.bytes.saturating_sub(bytes);
    Some(Change::PutPartition(of, Arc::new(PartitionState { bytes, ..(**state).clone() })))
}

pub(super) fn alter_configs(image: &Image, id: TopicId, wanted: &[ConfigChange], replace: bool) -> Checked {
    let topic = find(image, id)?;
    let configs = altered(&topic.configs, wanted, replace, topic_config::find)?;
    if configs == *topic.configs {
        return Ok((Reply::Done, Vec::new()));
    }
    let put =
        Change::PutTopic { id, name: topic.name.clone(), configs: Arc::new(configs), created_at: topic.created_at };
    Ok((Reply::Done, vec![put]))
}

pub(super) fn alter_broker_configs(
    image: &Image,
    broker: Option<BrokerId>,
    wanted: &[ConfigChange],
    replace: bool,
) -> Checked {
    if let Some(unknown) = broker.filter(|broker| !image.brokers.contains_key(broker)) {
        return Err(Refusal::UnknownBroker(unknown));
    }
    let none = Arc::default();
    let current = image.broker_configs.get(&broker).unwrap_or(&none);
    let configs = altered(current, wanted, replace, broker_config::find)?;
    if configs == **current {
        return Ok((Reply::Done, Vec::new()));
    }
    Ok((Reply::Done, vec![Change::PutBrokerConfigs(broker, Arc::new(configs))]))
}

fn check_value(key: Option<&ConfigKey>, name: &str, value: &str) -> Result<(), Refusal> {
    let Some(key) = key else { return Err(Refusal::InvalidConfig(format!("unknown configuration '{name}'"))) };
    key.check(value).map_err(Refusal::InvalidConfig)
}

fn altered(
    current: &Configs,
    wanted: &[ConfigChange],
    replace: bool,
    find: impl Fn(&str) -> Option<&'static ConfigKey>,
) -> Result<Configs, Refusal> {
    let mut configs = if replace { Configs::new() } else { current.clone() };
    let mut seen = BTreeSet::new();
    for ConfigChange { key: name, op } in wanted {
        let Some(key) = find(name) else {
            return Err(Refusal::InvalidConfig(format!("unknown configuration '{name}'")));
        };
        if key.read_only {
            return Err(Refusal::InvalidConfig(format!("'{name}' cannot be changed while the broker runs")));
        }
        if !seen.insert(name) {
            return Err(Refusal::InvalidConfig(format!("'{name}' is changed twice in one request")));
        }
        let list = |value: &str, change: fn(&str, &str) -> String| {
            if key.is_list() {
                Ok(change(configs.get(name).map_or(key.default, String::as_str), value))
            } else {
                Err(Refusal::InvalidConfig(format!("'{name}' is not a list: nothing can be added to it or taken away")))
            }
        };
        let value = match op {
            ConfigOp::Set(value) => Some(value.clone()),
            ConfigOp::Delete => None,
            ConfigOp::Append(value) => Some(list(value, append)?),
            ConfigOp::Subtract(value) => Some(list(value, subtract)?),
        };
        match value {
            Some(value) => {
                check_value(Some(key), name, &value)?;
                configs.insert(name.clone(), value);
            }
            None => {
                configs.remove(name);
            }
        }
    }
    Ok(configs)
}
