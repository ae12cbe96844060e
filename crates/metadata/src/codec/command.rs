//! Commands.

use objects::Extent;
use proto::controller::command as wire;
use proto::controller::{Command as Sent, ConfigChange as SentChange, ObjectMeta as SentObject, config_change::Op};
use proto::metadata::Endpoint as SentEndpoint;
use records::{BrokerId, Incarnation, JournalId, Offset, Position, Timestamp, TopicId, TopicPartition};

use super::{CodecError, bytes, topic_partition, uuid};
use crate::machine::{Command, ConfigChange, ConfigOp, Endpoint, ObjectMeta, PartitionStart};

/// A command as it is sent.
#[must_use]
pub fn to_command(command: &Command) -> Sent {
    use wire::Command as C;
    let sent = match command {
        Command::RegisterBroker { name, zone, endpoints, at } => C::RegisterBroker(wire::RegisterBroker {
            name: name.clone(),
            zone: zone.clone(),
            endpoints: endpoints.iter().map(to_endpoint).collect(),
            at: at.0,
        }),
        Command::FenceBroker { broker, incarnation, fenced } => {
            C::FenceBroker(wire::FenceBroker { broker: broker.0, incarnation: incarnation.0, fenced: *fenced })
        }
        Command::OpenJournal { owner, incarnation, members, ack_quorum, at } => C::OpenJournal(wire::OpenJournal {
            owner: owner.0,
            incarnation: incarnation.0,
            members: members.iter().map(|member| member.0).collect(),
            ack_quorum: u32::from(*ack_quorum),
            at: at.0,
        }),
        Command::RecoverJournal { journal, by } => {
            C::RecoverJournal(wire::RecoverJournal { journal: journal.0, by: by.0 })
        }
        Command::SealJournal { journal, epoch, end, successor, partitions, at } => C::SealJournal(wire::SealJournal {
            journal: journal.0,
            epoch: *epoch,
            end: end.map(|end| end.0),
            successor: successor.0,
            partitions: partitions.iter().map(to_start).collect(),
            at: at.0,
        }),
        Command::CloseJournal { journal, end } => {
            C::CloseJournal(wire::CloseJournal { journal: journal.0, end: end.0 })
        }
        Command::AbandonJournal { journal, at } => {
            C::AbandonJournal(wire::AbandonJournal { journal: journal.0, at: at.0 })
        }
        Command::CommitObject { journal, from, to, object, extents, newest_append, durable_seen, at } => {
            C::CommitObject(wire::CommitObject {
                journal: journal.0,
                from: from.0,
                to: to.0,
                object: Some(SentObject { id: bytes(object.id), key: object.key.clone(), size: object.size }),
                extents: extents.iter().map(Extent::to_proto).collect(),
                newest_append: newest_append.0,
                durable_seen: durable_seen.0,
                at: at.0,
            })
        }
        Command::CreateTopic { name, id, partitions, configs, at } => C::CreateTopic(wire::CreateTopic {
            name: name.clone(),
            id: bytes(id.0),
            partitions: *partitions,
            configs: configs.clone(),
            at: at.0,
        }),
        Command::DeleteTopic { id, at } => C::DeleteTopic(wire::DeleteTopic { id: bytes(id.0), at: at.0 }),
        Command::CreatePartitions { topic, total } => {
            C::CreatePartitions(wire::CreatePartitions { topic: bytes(topic.0), total: *total })
        }
        Command::AlterTopicConfigs { topic, changes, replace } => C::AlterTopicConfigs(wire::AlterTopicConfigs {
            topic: bytes(topic.0),
            changes: changes.iter().map(to_change).collect(),
            replace: *replace,
        }),
        Command::AlterBrokerConfigs { broker, changes, replace } => C::AlterBrokerConfigs(wire::AlterBrokerConfigs {
            broker: broker.map(|broker| broker.0),
            changes: changes.iter().map(to_change).collect(),
            replace: *replace,
        }),
        Command::SetLogStart { topic_partition: TopicPartition { topic, partition }, offset } => {
            C::SetLogStart(wire::SetLogStart { topic: bytes(topic.0), partition: partition.0, offset: offset.0 })
        }
        Command::AllocateProducerIds { count } => C::AllocateProducerIds(wire::AllocateProducerIds { count: *count }),
    };
    Sent { command: Some(sent) }
}

/// The command that was sent.
///
/// # Errors
/// [`CodecError`].
pub fn from_command(sent: Sent) -> Result<Command, CodecError> {
    use wire::Command as C;
    Ok(match sent.command.ok_or(CodecError("a command of a newer version"))? {
        C::RegisterBroker(wire::RegisterBroker { name, zone, endpoints, at }) => Command::RegisterBroker {
            name,
            zone,
            endpoints: endpoints.into_iter().map(from_endpoint).collect::<Result<_, _>>()?,
            at: Timestamp(at),
        },
        C::FenceBroker(wire::FenceBroker { broker, incarnation, fenced }) => {
            Command::FenceBroker { broker: BrokerId(broker), incarnation: Incarnation(incarnation), fenced }
        }
        C::OpenJournal(wire::OpenJournal { owner, incarnation, members, ack_quorum, at }) => Command::OpenJournal {
            owner: BrokerId(owner),
            incarnation: Incarnation(incarnation),
            members: members.into_iter().map(BrokerId).collect(),
            ack_quorum: u8::try_from(ack_quorum).map_err(|_| CodecError("a quorum of more than 255"))?,
            at: Timestamp(at),
        },
        C::RecoverJournal(wire::RecoverJournal { journal, by }) => {
            Command::RecoverJournal { journal: JournalId(journal), by: BrokerId(by) }
        }
        C::SealJournal(wire::SealJournal { journal, epoch, end, successor, partitions, at }) => Command::SealJournal {
            journal: JournalId(journal),
            epoch,
            end: end.map(Position),
            successor: JournalId(successor),
            partitions: partitions.iter().map(from_start).collect::<Result<_, _>>()?,
            at: Timestamp(at),
        },
        C::CloseJournal(wire::CloseJournal { journal, end }) => {
            Command::CloseJournal { journal: JournalId(journal), end: Position(end) }
        }
        C::AbandonJournal(wire::AbandonJournal { journal, at }) => {
            Command::AbandonJournal { journal: JournalId(journal), at: Timestamp(at) }
        }
        C::CommitObject(sent) => commit_object(sent)?,
        C::CreateTopic(wire::CreateTopic { name, id, partitions, configs, at }) => {
            Command::CreateTopic { name, id: TopicId(uuid(&id)?), partitions, configs, at: Timestamp(at) }
        }
        C::DeleteTopic(wire::DeleteTopic { id, at }) => {
            Command::DeleteTopic { id: TopicId(uuid(&id)?), at: Timestamp(at) }
        }
        C::CreatePartitions(wire::CreatePartitions { topic, total }) => {
            Command::CreatePartitions { topic: TopicId(uuid(&topic)?), total }
        }
        C::AlterTopicConfigs(wire::AlterTopicConfigs { topic, changes, replace }) => {
            Command::AlterTopicConfigs { topic: TopicId(uuid(&topic)?), changes: from_changes(changes)?, replace }
        }
        C::AlterBrokerConfigs(wire::AlterBrokerConfigs { broker, changes, replace }) => {
            Command::AlterBrokerConfigs { broker: broker.map(BrokerId), changes: from_changes(changes)?, replace }
        }
        C::SetLogStart(wire::SetLogStart { topic, partition, offset }) => {
            Command::SetLogStart { topic_partition: topic_partition(&topic, partition)?, offset: Offset(offset) }
        }
        C::AllocateProducerIds(wire::AllocateProducerIds { count }) => Command::AllocateProducerIds { count },
    })
}

fn commit_object(sent: wire::CommitObject) -> Result<Command, CodecError> {
    let object = sent.object.ok_or(CodecError("an object is missing"))?;
    let id = uuid(&object.id)?;
    let extent = |extent| Extent::from_proto(extent, id).map_err(|_| CodecError("an extent is impossible"));
    Ok(Command::CommitObject {
        journal: JournalId(sent.journal),
        from: Position(sent.from),
        to: Position(sent.to),
        object: ObjectMeta { id, key: object.key, size: object.size },
        extents: sent.extents.iter().map(extent).collect::<Result<_, _>>()?,
        newest_append: Timestamp(sent.newest_append),
        durable_seen: Position(sent.durable_seen),
        at: Timestamp(sent.at),
    })
}

fn to_endpoint(endpoint: &Endpoint) -> SentEndpoint {
    let Endpoint { listener, host, port } = endpoint.clone();
    SentEndpoint { listener, host, port: u32::from(port) }
}

fn from_endpoint(sent: SentEndpoint) -> Result<Endpoint, CodecError> {
    let port = u16::try_from(sent.port).map_err(|_| CodecError("a port above 65535"))?;
    Ok(Endpoint { listener: sent.listener, host: sent.host, port })
}

fn to_start(start: &PartitionStart) -> proto::controller::PartitionStart {
    let TopicPartition { topic, partition } = start.topic_partition;
    proto::controller::PartitionStart { topic: bytes(topic.0), partition: partition.0, start: start.start_offset.0 }
}

fn from_start(sent: &proto::controller::PartitionStart) -> Result<PartitionStart, CodecError> {
    let topic_partition = topic_partition(&sent.topic, sent.partition)?;
    Ok(PartitionStart { topic_partition, start_offset: Offset(sent.start) })
}

fn to_change(change: &ConfigChange) -> SentChange {
    let op = match &change.op {
        ConfigOp::Set(value) => Op::Set(value.clone()),
        ConfigOp::Delete => Op::Delete(true),
        ConfigOp::Append(value) => Op::Append(value.clone()),
        ConfigOp::Subtract(value) => Op::Subtract(value.clone()),
    };
    SentChange { key: change.key.clone(), op: Some(op) }
}

fn from_changes(sent: Vec<SentChange>) -> Result<Vec<ConfigChange>, CodecError> {
    let change = |sent: SentChange| {
        let op = match sent.op.ok_or(CodecError("a change of a configuration without what to do"))? {
            Op::Set(value) => ConfigOp::Set(value),
            Op::Delete(_) => ConfigOp::Delete,
            Op::Append(value) => ConfigOp::Append(value),
            Op::Subtract(value) => ConfigOp::Subtract(value),
        };
        Ok(ConfigChange { key: sent.key, op })
    };
    sent.into_iter().map(change).collect()
}
