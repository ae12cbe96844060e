//! What was sent is what arrives, of every kind.

use records::{BrokerId, Incarnation, JournalId, Position, ProducerId};

use super::*;
use crate::handle::SubmitError;
use crate::machine::{Command, ConfigChange, ConfigOp, Configs, Endpoint, ObjectMeta, PartitionStart, Refusal, Reply};

const AT: Timestamp = Timestamp(1_700_000_000_123);

fn over_the_wire<M: prost::Message + Default>(sent: &M) -> M {
    M::decode(&*sent.encode_to_vec()).unwrap()
}

/// A command as it arrives.
pub(crate) fn sent(command: &Command) -> Command {
    from_command(over_the_wire(&to_command(command))).unwrap()
}

/// An outcome as it arrives.
pub(crate) fn answered(outcome: Result<Reply, Refusal>) -> Result<Reply, Refusal> {
    let answer = over_the_wire(&to_answer(outcome.map_err(SubmitError::Refused), 9));
    assert_eq!(answer.revision, 9);
    from_answer(answer).unwrap().unwrap()
}

fn of(topic: u128, partition: i32) -> TopicPartition {
    TopicPartition { topic: TopicId(Uuid::from_u128(topic)), partition: Partition(partition) }
}

fn extent(object: Uuid) -> Extent {
    let block = objects::format::Block { position: 900, len: 7, crc: 3 };
    Extent {
        topic_partition: of(5, 2),
        base_offset: Offset(10),
        end_offset: Offset(20),
        position: 64,
        len: 800,
        crc: 77,
        batch_count: 2,
        record_count: 10,
        max_timestamp: Timestamp(-1),
        index: block,
        producers: objects::format::Block { len: 0, ..block },
        object,
    }
}

#[test]
fn commands_arrive_as_they_were_sent() {
    let (broker, incarnation, journal) = (BrokerId(3), Incarnation(4), JournalId(5));
    let topic = TopicId(Uuid::from_u128(5));
    let id = Uuid::from_u128(99);
    let change = |key: &str, op| ConfigChange { key: key.into(), op };
    let changes = vec![
        change("a", ConfigOp::Set("1".into())),
        change("b", ConfigOp::Delete),
        change("c", ConfigOp::Append("x".into())),
        change("d", ConfigOp::Subtract("y".into())),
    ];
    let endpoints = vec![Endpoint { listener: "kafka".into(), host: "::1".into(), port: 65535 }];
    let object = ObjectMeta { id, key: "c/data/ab/x".into(), size: 1 << 40 };
    let partitions = vec![PartitionStart { topic_partition: of(5, 2), start_offset: Offset(1 << 40) }];
    let configs = Configs::from([("retention.ms".into(), "-1".into())]);
    let seal = |end| Command::SealJournal {
        journal,
        epoch: 2,
        end,
        successor: JournalId(6),
        partitions: partitions.clone(),
        at: AT,
    };
    let all = [
        Command::RegisterBroker { name: "b-1".into(), zone: "z".into(), endpoints, at: AT },
        Command::FenceBroker { broker, incarnation, fenced: true },
        Command::OpenJournal { owner: broker, incarnation, members: vec![broker, BrokerId(9)], ack_quorum: 2, at: AT },
        Command::RecoverJournal { journal, by: broker },
        seal(None),
        seal(Some(Position(0))),
        Command::CloseJournal { journal, end: Position(u64::MAX) },
        Command::AbandonJournal { journal, at: AT },
        Command::CommitObject {
            journal,
            from: Position(1),
            to: Position(2),
            object,
            extents: vec![extent(id)],
            newest_append: AT,
            durable_seen: Position(3),
            at: AT,
        },
        Command::CreateTopic { name: "t".into(), id: topic, partitions: 7, configs, at: AT },
        Command::DeleteTopic { id: topic, at: AT },
        Command::CreatePartitions { topic, total: 9 },
        Command::AlterTopicConfigs { topic, changes: changes.clone(), replace: true },
        Command::AlterBrokerConfigs { broker: None, changes: changes.clone(), replace: false },
        Command::AlterBrokerConfigs { broker: Some(broker), changes, replace: false },
        Command::SetLogStart { topic_partition: of(5, 2), offset: Offset(8) },
        Command::AllocateProducerIds { count: 10 },
    ];
    for command in all {
        assert_eq!(sent(&command), command);
    }
}

#[test]
fn answers_arrive_as_they_were_sent() {
    let (broker, journal) = (BrokerId(3), JournalId(5));
    let id = TopicId(Uuid::from_u128(5));
    for reply in [
        Reply::Registered { broker, incarnation: Incarnation(4) },
        Reply::JournalOpened { journal },
        Reply::Recovering { epoch: 7 },
        Reply::JournalSealed { end: Position(8) },
        Reply::Committed { uploaded: Position(9) },
        Reply::TopicCreated { id },
        Reply::ProducerIds { first: ProducerId(1 << 40), count: 10 },
        Reply::Done,
    ] {
        assert_eq!(answered(Ok(reply.clone())), Ok(reply));
    }
    for refusal in [
        Refusal::UnknownTopic(id),
        Refusal::UnknownPartition(of(5, 1)),
        Refusal::UnknownBroker(broker),
        Refusal::UnknownJournal(journal),
        Refusal::TopicExists { name: "t".into(), id },
        Refusal::TopicCollision { name: "a.b".into(), existing: "a_b".into() },
        Refusal::InvalidTopicName("why".into()),
        Refusal::InvalidPartitions("why".into()),
        Refusal::InvalidConfig("why".into()),
        Refusal::OffsetOutOfRange { topic_partition: of(5, 1), offset: Offset(8) },
        Refusal::LimitReached { what: "topics", limit: 10 },
        Refusal::NoOpenJournal,
        Refusal::StaleIncarnation { broker, current: Incarnation(4) },
        Refusal::StaleEpoch { journal, current: 7 },
        Refusal::JournalEnded { journal, end: Position(8) },
        Refusal::WrongFrontier { journal, uploaded: Position(9) },
        Refusal::NotContiguous { topic_partition: of(5, 1), frontier: Offset(8) },
        Refusal::Invalid("why".into()),
    ] {
        assert_eq!(answered(Err(refusal.clone())), Err(refusal));
    }
    let stopped = to_answer(Err(SubmitError::Fenced), 0);
    assert_eq!(from_answer(over_the_wire(&stopped)).unwrap(), None, "the outcome is not known");
}

#[test]
fn extents_arrive_as_they_were_sent() {
    let query = ExtentQuery { of: of(5, 2), from: Offset(9), at_least: Some(AT), limit: 3 };
    assert_eq!(from_query(&over_the_wire(&to_query(&query, 4))).unwrap(), query);
    let object = Uuid::from_u128(99);
    let located = LocatedExtent { extent: extent(object), key: Path::from("c/data/x"), size: 1000 };
    let found = from_extents(over_the_wire(&to_extents(Ok(vec![located.clone()])))).unwrap();
    assert_eq!(found, [located]);
    for error in [QueryError::Unavailable("a".into()), QueryError::Corrupt("b".into())] {
        let failed = from_extents(over_the_wire(&to_extents(Err(error.clone())))).unwrap_err();
        assert_eq!(failed.to_string(), error.to_string());
    }
}

#[test]
fn what_no_broker_sends_is_refused() {
    assert!(from_command(proto::controller::Command::default()).is_err());
    assert!(from_answer(proto::controller::SubmitAnswer::default()).is_err());
    let short = wire::ExtentsRequest { topic: Bytes::from_static(b"short"), ..Default::default() };
    assert!(from_query(&short).is_err());
}
