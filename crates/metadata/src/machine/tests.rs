//! The rules one by one; `world` has the machine live through random histories.

mod world;

use std::sync::Arc;

use proptest::prelude::*;
use records::{
    BrokerId, Incarnation, JournalId, LeaderEpoch, Offset, Partition, Position, ProducerId, Timestamp, TopicId,
    TopicPartition,
};
use uuid::Uuid;

use super::*;

const AT: Timestamp = Timestamp(1_000);

/// Carries out a command, and checks that repeating those that promise it changes nothing.
#[track_caller]
fn done(image: &mut Image, command: &Command) -> Reply {
    match check(image, command) {
        Ok((reply, changes)) => {
            image.apply(&changes);
            reply
        }
        Err(refusal) => panic!("{command:?} was refused: {refusal:?}"),
    }
}

#[track_caller]
fn repeated(image: &mut Image, command: &Command) -> Reply {
    let first = done(image, command);
    let before = image.clone();
    assert_eq!(check(image, command), Ok((first.clone(), Vec::new())), "{command:?} is repeated without effect");
    assert_eq!(*image, before);
    first
}

#[track_caller]
fn refused(image: &Image, command: &Command) -> Refusal {
    check(image, command).expect_err("the command is refused")
}

fn register(name: &str) -> Command {
    Command::RegisterBroker { name: name.into(), zone: String::new(), endpoints: Vec::new(), at: AT }
}

fn open(owner: i32, incarnation: u64) -> Command {
    Command::OpenJournal {
        owner: BrokerId(owner),
        incarnation: Incarnation(incarnation),
        members: vec![BrokerId(owner)],
        ack_quorum: 1,
        at: AT,
    }
}

fn topic_id(n: u128) -> TopicId {
    TopicId(Uuid::from_u128(n))
}

fn create(name: &str, id: u128, partitions: u32) -> Command {
    Command::CreateTopic { name: name.into(), id: topic_id(id), partitions, configs: Configs::new(), at: AT }
}

fn tp(topic: u128, partition: i32) -> TopicPartition {
    TopicPartition { topic: topic_id(topic), partition: Partition(partition) }
}

/// One broker with one open journal, and a topic `t` with the id 1 and two partitions.
fn cluster() -> Image {
    let mut image = Image::new(Uuid::from_u128(7), Limits { topics_max: 3, partitions_max: 10, ..Limits::default() });
    done(&mut image, &register("a"));
    done(&mut image, &open(1, 1));
    done(&mut image, &create("t", 1, 2));
    image
}

pub(super) fn extent(of: TopicPartition, base: i64, end: i64, object: u128) -> objects::Extent {
    objects::Extent {
        topic_partition: of,
        base_offset: Offset(base),
        end_offset: Offset(end),
        position: 0,
        len: 100 + (end - base).unsigned_abs(),
        crc: 1,
        batch_count: 1,
        record_count: u64::try_from(end - base).unwrap(),
        max_timestamp: Timestamp(end),
        index: objects::format::Block::default(),
        producers: objects::format::Block::default(),
        object: Uuid::from_u128(object),
    }
}

fn commit(journal: u64, from: u64, to: u64, object: u128, extents: Vec<objects::Extent>) -> Command {
    Command::CommitObject {
        journal: JournalId(journal),
        from: Position(from),
        to: Position(to),
        object: ObjectMeta { id: Uuid::from_u128(object), key: format!("c/data/00/{object}"), size: 100 },
        extents,
        newest_append: AT,
        durable_seen: Position(to),
        at: AT,
    }
}

fn seal(journal: u64, epoch: u64, end: Option<u64>, successor: u64, starts: &[(TopicPartition, i64)]) -> Command {
    Command::SealJournal {
        journal: JournalId(journal),
        epoch,
        end: end.map(Position),
        successor: JournalId(successor),
        partitions: starts.iter().map(|(tp, start)| (*tp, Offset(*start)).into()).collect(),
        at: AT,
    }
}

fn recover(journal: u64) -> Command {
    Command::RecoverJournal { journal: JournalId(journal), by: BrokerId(1) }
}

/// The owner comes back: journal 1 is being recovered under epoch 1, journal 2 is open.
fn returned(image: &mut Image) {
    done(image, &register("a"));
    done(image, &open(1, 2));
    assert_eq!(done(image, &recover(1)), Reply::Recovering { epoch: 1 });
}

fn state(image: &Image, of: TopicPartition) -> PartitionState {
    (**image.partition(of).unwrap()).clone()
}

#[test]
fn a_name_keeps_its_broker_id_and_its_incarnation_grows() {
    let mut image = cluster();
    let registered =
        |broker, incarnation| Reply::Registered { broker: BrokerId(broker), incarnation: Incarnation(incarnation) };
    assert_eq!(done(&mut image, &register("b")), registered(2, 1));
    assert_eq!(done(&mut image, &register("a")), registered(1, 2));
    assert_eq!(done(&mut image, &register("b")), registered(2, 2));
    assert_eq!(
        refused(&image, &open(1, 1)),
        Refusal::StaleIncarnation { broker: BrokerId(1), current: Incarnation(2) }
    );
    assert_eq!(refused(&image, &open(3, 1)), Refusal::UnknownBroker(BrokerId(3)));
}

#[test]
fn a_journal_has_distinct_known_members_and_a_possible_quorum() {
    let mut image = cluster();
    done(&mut image, &register("b"));
    let open = |members: &[i32], ack_quorum| Command::OpenJournal {
        owner: BrokerId(1),
        incarnation: Incarnation(1),
        members: members.iter().copied().map(BrokerId).collect(),
        ack_quorum,
        at: AT,
    };
    for (members, quorum) in [(&[1, 1][..], 1), (&[2], 1), (&[1, 2], 0), (&[1, 2], 3), (&[], 1)] {
        assert!(matches!(refused(&image, &open(members, quorum)), Refusal::Invalid(_)), "{members:?} {quorum}");
    }
    assert_eq!(refused(&image, &open(&[1, 3], 1)), Refusal::UnknownBroker(BrokerId(3)));
    assert_eq!(done(&mut image, &open(&[1, 2], 2)), Reply::JournalOpened { journal: JournalId(2) });
}

#[test]
fn topics_are_named_by_kafkas_rules() {
    for good in ["a", "A.b-c_9", "...", &"x".repeat(249)] {
        assert_eq!(check_topic_name(good), Ok(()), "{good}");
    }
    for bad in ["", ".", "..", "a b", "a/b", "é", &"x".repeat(250)] {
        assert!(matches!(check_topic_name(bad), Err(Refusal::InvalidTopicName(_))), "{bad}");
    }
    let mut image = cluster();
    done(&mut image, &create("a.b", 2, 1));
    let collision = Refusal::TopicCollision { name: "a_b".into(), existing: "a.b".into() };
    assert_eq!(refused(&image, &create("a_b", 3, 1)), collision);
    done(&mut image, &Command::DeleteTopic { id: topic_id(2), at: AT });
    done(&mut image, &create("a_b", 3, 1));
}

#[test]
fn a_topic_is_made_once_and_existing_comes_before_any_other_fault() {
    let mut image = cluster();
    repeated(&mut image, &create("u", 2, 1));
    assert_eq!(refused(&image, &create("u", 3, 0)), Refusal::TopicExists { name: "u".into(), id: topic_id(2) });
    assert!(matches!(refused(&image, &create("v", 2, 1)), Refusal::Invalid(_)), "an id is never given twice");
    assert!(matches!(refused(&image, &create("v", 0, 1)), Refusal::Invalid(_)), "no topic has the nil id");
    assert!(matches!(refused(&image, &create("v", 3, 0)), Refusal::InvalidPartitions(_)));
    repeated(&mut image, &Command::DeleteTopic { id: topic_id(2), at: AT });
    assert!(matches!(refused(&image, &create("u", 2, 1)), Refusal::Invalid(_)), "not while it is being removed either");
    assert_eq!(refused(&image, &Command::DeleteTopic { id: topic_id(9), at: AT }), Refusal::UnknownTopic(topic_id(9)));
}

#[test]
fn topics_and_partitions_have_limits() {
    let mut image = cluster();
    assert_eq!(refused(&image, &create("u", 2, 9)), Refusal::LimitReached { what: "partitions", limit: 10 });
    let grow = |total| Command::CreatePartitions { topic: topic_id(1), total };
    assert_eq!(refused(&image, &grow(11)), Refusal::LimitReached { what: "partitions", limit: 10 });
    assert_eq!(refused(&image, &grow(u32::MAX)), Refusal::LimitReached { what: "partitions", limit: 10 });
    assert!(matches!(refused(&image, &grow(2)), Refusal::InvalidPartitions(_)));
    done(&mut image, &grow(4));
    done(&mut image, &create("u", 2, 1));
    done(&mut image, &create("v", 3, 1));
    assert_eq!(refused(&image, &create("w", 4, 1)), Refusal::LimitReached { what: "topics", limit: 3 });
    done(&mut image, &Command::DeleteTopic { id: topic_id(1), at: AT });
    done(&mut image, &create("w", 4, 8));
    assert_eq!(image.partition_count(), 10);
}

#[test]
fn partitions_go_to_open_journals_of_current_incarnations() {
    let mut image = Image::new(Uuid::from_u128(7), Limits::default());
    done(&mut image, &register("a"));
    assert_eq!(refused(&image, &create("t", 1, 1)), Refusal::NoOpenJournal);
    done(&mut image, &open(1, 1));
    done(&mut image, &register("b"));
    done(&mut image, &open(2, 1));
    done(&mut image, &create("t", 1, 4));
    let leaders: Vec<i32> = image.topic("t").unwrap().partitions.iter().map(|state| state.leader.0).collect();
    assert_eq!(leaders, [1, 2, 1, 2]);
    done(&mut image, &register("a"));
    done(&mut image, &create("u", 2, 2));
    let leaders: Vec<i32> = image.topic("u").unwrap().partitions.iter().map(|state| state.leader.0).collect();
    assert_eq!(leaders, [2, 2]);
    assert_eq!(image.topic("u").unwrap().partitions[0].leader_epoch, LeaderEpoch(1));
}

#[test]
fn a_commit_must_start_at_the_journals_frontier() {
    let mut image = cluster();
    let first = commit(1, 0, 10, 1, vec![extent(tp(1, 0), 0, 5, 1)]);
    assert_eq!(repeated(&mut image, &first), Reply::Committed { uploaded: Position(10) });
    assert_eq!(state(&image, tp(1, 0)).frontier, Offset(5));
    let behind = Refusal::WrongFrontier { journal: JournalId(1), uploaded: Position(10) };
    assert_eq!(refused(&image, &commit(1, 0, 10, 2, vec![extent(tp(1, 0), 0, 5, 2)])), behind);
    assert_eq!(refused(&image, &commit(1, 20, 30, 2, Vec::new())), behind);
    assert!(matches!(refused(&image, &commit(1, 10, 10, 2, Vec::new())), Refusal::Invalid(_)));
    // Another object under a known id is a mistake.
    assert!(matches!(refused(&image, &commit(1, 10, 20, 1, Vec::new())), Refusal::Invalid(_)));
    assert_eq!(refused(&image, &commit(9, 0, 10, 2, Vec::new())), Refusal::UnknownJournal(JournalId(9)));
}

#[test]
fn extents_must_be_contiguous() {
    let mut image = cluster();
    done(&mut image, &commit(1, 0, 10, 1, vec![extent(tp(1, 0), 0, 5, 1), extent(tp(1, 0), 5, 6, 1)]));
    let gap = Refusal::NotContiguous { topic_partition: tp(1, 0), frontier: Offset(6) };
    assert_eq!(refused(&image, &commit(1, 10, 20, 2, vec![extent(tp(1, 0), 7, 8, 2)])), gap);
    for (base, end, object) in [(5, 8, 2), (6, 6, 2), (6, 7, 3), (6, 6 + OFFSET_RESERVE + 1, 2)] {
        let wrong = commit(1, 10, 20, 2, vec![extent(tp(1, 0), base, end, object)]);
        assert!(matches!(refused(&image, &wrong), Refusal::Invalid(_)), "{base} {end} {object}");
    }
    let unknown = commit(1, 10, 20, 2, vec![extent(tp(1, 2), 0, 1, 2)]);
    assert_eq!(refused(&image, &unknown), Refusal::UnknownPartition(tp(1, 2)));
    done(&mut image, &commit(1, 10, 20, 2, vec![extent(tp(1, 0), 6, 6 + OFFSET_RESERVE, 2)]));
}

#[test]
fn extents_of_deleted_topics_are_dropped() {
    let mut image = cluster();
    done(&mut image, &Command::DeleteTopic { id: topic_id(1), at: AT });
    let (_, changes) = check(&image, &commit(1, 0, 10, 1, vec![extent(tp(1, 0), 0, 5, 1)])).unwrap();
    assert!(!changes.iter().any(|change| matches!(change, Change::PutExtent(_) | Change::PutObject { .. })));
    assert!(changes.iter().any(|change| matches!(change, Change::PutGarbage { .. })), "the object is garbage at once");
}

#[test]
fn a_recovered_journal_ends_once_and_its_partitions_move() {
    let mut image = cluster();
    done(&mut image, &commit(1, 0, 10, 1, vec![extent(tp(1, 0), 0, 5, 1)]));
    returned(&mut image);
    assert_eq!(
        refused(&image, &seal(1, 0, Some(20), 2, &[])),
        Refusal::StaleEpoch { journal: JournalId(1), current: 1 }
    );
    assert_eq!(
        refused(&image, &seal(1, 1, Some(9), 2, &[])),
        Refusal::WrongFrontier { journal: JournalId(1), uploaded: Position(10) }
    );
    for start in [4, 6 + OFFSET_RESERVE] {
        let wrong = seal(1, 1, Some(20), 2, &[(tp(1, 0), start)]);
        assert!(matches!(refused(&image, &wrong), Refusal::Invalid(_)), "{start}");
    }
    assert!(matches!(refused(&image, &seal(1, 1, Some(20), 1, &[])), Refusal::Invalid(_)), "not into itself");
    let sealing = seal(1, 1, Some(20), 2, &[(tp(1, 0), 8)]);
    assert_eq!(repeated(&mut image, &sealing), Reply::JournalSealed { end: Position(20) });
    assert_eq!(image.journals[&JournalId(1)].state, JournalState::Sealed { end: Position(20) });
    // Every partition has a new epoch, also the one with nothing in the journal.
    let moved = state(&image, tp(1, 0));
    assert_eq!((moved.leader_epoch, moved.journal, moved.frontier), (LeaderEpoch(2), JournalId(2), Offset(5)));
    assert_eq!((moved.epochs.len(), moved.epoch_start()), (2, Offset(8)));
    let idle = state(&image, tp(1, 1));
    assert_eq!((idle.leader_epoch, idle.epochs.len(), idle.epoch_start()), (LeaderEpoch(2), 1, Offset(0)));
    // Its end is written once.
    let ended = Refusal::JournalEnded { journal: JournalId(1), end: Position(20) };
    assert_eq!(refused(&image, &seal(1, 1, Some(30), 2, &[])), ended);
    assert_eq!(refused(&image, &recover(1)), ended);
    assert_eq!(refused(&image, &commit(1, 10, 30, 2, vec![extent(tp(1, 0), 5, 8, 2)])), ended);
    // What the next journal has waits for what this one has.
    let next = commit(2, 0, 5, 3, vec![extent(tp(1, 0), 8, 9, 3)]);
    assert_eq!(refused(&image, &next), Refusal::NotContiguous { topic_partition: tp(1, 0), frontier: Offset(5) });
    // Above its end nothing of it is taken; below it, nothing may be missing.
    let above = commit(1, 10, 20, 2, vec![extent(tp(1, 0), 5, 9, 2)]);
    assert!(matches!(refused(&image, &above), Refusal::Invalid(_)));
    let short = commit(1, 10, 20, 2, vec![extent(tp(1, 0), 5, 7, 2)]);
    assert!(matches!(refused(&image, &short), Refusal::Invalid(_)));
    repeated(&mut image, &commit(1, 10, 20, 2, vec![extent(tp(1, 0), 5, 8, 2)]));
    assert_eq!(image.journals[&JournalId(1)].state, JournalState::Drained);
    assert_eq!(image.journals[&JournalId(1)].end(), Some(Position(20)));
    repeated(&mut image, &next);
    // And no longer can the old journal speak for what the new one has.
    let (journal, end) = (JournalId(1), Position(20));
    let late = commit(1, 20, 25, 4, vec![extent(tp(1, 0), 9, 10, 4)]);
    assert_eq!(refused(&image, &late), Refusal::JournalEnded { journal, end });
}

#[test]
fn a_journal_that_is_uploaded_is_drained_when_it_is_sealed() {
    let mut image = cluster();
    done(&mut image, &commit(1, 0, 10, 1, vec![extent(tp(1, 0), 0, 5, 1)]));
    done(&mut image, &open(1, 1));
    let untrue = seal(1, 0, Some(10), 2, &[(tp(1, 0), 6)]);
    assert!(matches!(refused(&image, &untrue), Refusal::Invalid(_)), "nothing is left that offset 5 could be in");
    repeated(&mut image, &seal(1, 0, Some(10), 2, &[(tp(1, 0), 5)]));
    assert_eq!(image.journals[&JournalId(1)].state, JournalState::Drained);
    assert_eq!(state(&image, tp(1, 0)).epoch_start(), Offset(5));
}

#[test]
fn a_recovery_under_an_older_epoch_is_refused() {
    let mut image = cluster();
    returned(&mut image);
    assert_eq!(done(&mut image, &recover(1)), Reply::Recovering { epoch: 2 });
    assert_eq!(
        refused(&image, &seal(1, 1, Some(0), 2, &[])),
        Refusal::StaleEpoch { journal: JournalId(1), current: 2 }
    );
    done(&mut image, &seal(1, 2, Some(0), 2, &[]));
}

#[test]
fn after_a_lost_disk_no_offset_is_used_again() {
    let mut image = cluster();
    done(&mut image, &commit(1, 0, 10, 1, vec![extent(tp(1, 0), 0, 5, 1)]));
    let limit = state(&image, tp(1, 0)).assign_limit();
    assert_eq!(limit, Offset(5 + OFFSET_RESERVE));
    returned(&mut image);
    assert_eq!(
        repeated(&mut image, &seal(1, 1, None, 2, &[(tp(1, 0), 7)])),
        Reply::JournalSealed { end: Position(10) }
    );
    let moved = state(&image, tp(1, 0));
    assert_eq!((moved.epoch_start(), moved.frontier), (limit, limit));
    assert!(moved.epochs[1].after_loss);
    assert_eq!(moved.assign_limit(), Offset(limit.0 + OFFSET_RESERVE));
    assert_eq!(state(&image, tp(1, 1)).epoch_start(), Offset(OFFSET_RESERVE), "nobody knows that it was idle");
    done(&mut image, &commit(2, 0, 5, 2, vec![extent(tp(1, 0), limit.0, limit.0 + 1, 2)]));
}

#[test]
fn a_loss_waits_for_the_journals_before_it() {
    let mut image = cluster();
    // Journal 1 is sealed with offsets 0 to 8 of partition 0 in it, journal 2 is lost, journal 3 goes on.
    returned(&mut image);
    done(&mut image, &seal(1, 1, Some(20), 2, &[(tp(1, 0), 8)]));
    done(&mut image, &register("a"));
    done(&mut image, &open(1, 3));
    assert_eq!(done(&mut image, &recover(2)), Reply::Recovering { epoch: 1 });
    done(&mut image, &seal(2, 1, None, 3, &[]));
    let restart = OFFSET_RESERVE;
    let waiting = state(&image, tp(1, 0));
    assert_eq!((waiting.frontier, waiting.epoch_start()), (Offset(0), Offset(restart)));
    assert!(waiting.assign_limit() > waiting.epoch_start(), "the leader can go on at once");
    assert_eq!(state(&image, tp(1, 1)).frontier, Offset(restart), "journal 1 had nothing of it");
    let next = commit(3, 0, 5, 3, vec![extent(tp(1, 0), restart, restart + 1, 3)]);
    assert!(matches!(refused(&image, &next), Refusal::NotContiguous { .. }));
    done(&mut image, &commit(1, 0, 20, 1, vec![extent(tp(1, 0), 0, 8, 1)]));
    assert_eq!(state(&image, tp(1, 0)).frontier, Offset(restart));
    done(&mut image, &next);
}

#[test]
fn what_a_sealed_journal_had_can_be_given_up() {
    let mut image = cluster();
    returned(&mut image);
    let abandon = Command::AbandonJournal { journal: JournalId(1), at: AT };
    assert!(matches!(refused(&image, &abandon), Refusal::Invalid(_)));
    done(&mut image, &seal(1, 1, Some(20), 2, &[(tp(1, 0), 8)]));
    done(&mut image, &commit(1, 0, 10, 1, vec![extent(tp(1, 0), 0, 3, 1)]));
    assert_eq!(repeated(&mut image, &abandon), Reply::Done);
    let journal = &image.journals[&JournalId(1)];
    assert_eq!(
        (journal.state, journal.end(), journal.uploaded),
        (JournalState::Drained, Some(Position(20)), Position(10))
    );
    assert_eq!(state(&image, tp(1, 0)).frontier, Offset(8));
    let late = refused(&image, &commit(1, 10, 20, 3, Vec::new()));
    assert!(matches!(late, Refusal::JournalEnded { .. }), "an upload that was still under way: {late:?}");
    done(&mut image, &commit(2, 0, 5, 2, vec![extent(tp(1, 0), 8, 9, 2)]));
}

#[test]
fn drained_journals_are_forgotten_after_the_next_incarnation() {
    let mut image = cluster();
    for incarnation in 2..6 {
        done(&mut image, &register("a"));
        done(&mut image, &open(1, incarnation));
        done(&mut image, &recover(incarnation - 1));
        done(&mut image, &seal(incarnation - 1, 1, Some(0), incarnation, &[]));
    }
    assert_eq!(image.journals.keys().copied().collect::<Vec<_>>(), [JournalId(4), JournalId(5)]);
    assert_eq!(state(&image, tp(1, 0)).epochs.len(), 1, "epochs without records leave nothing behind");
    assert_eq!(state(&image, tp(1, 0)).leader_epoch, LeaderEpoch(5));
}

#[test]
fn the_log_start_only_grows() {
    let mut image = cluster();
    let start = |offset| Command::SetLogStart { topic_partition: tp(1, 0), offset: Offset(offset) };
    done(&mut image, &commit(1, 0, 10, 1, vec![extent(tp(1, 0), 0, 5, 1)]));
    repeated(&mut image, &start(3));
    assert!(image.trims.contains(&tp(1, 0)));
    done(&mut image, &start(2));
    assert_eq!(state(&image, tp(1, 0)).log_start, Offset(3));
    let beyond = 5 + OFFSET_RESERVE + 1;
    assert_eq!(
        refused(&image, &start(beyond)),
        Refusal::OffsetOutOfRange { topic_partition: tp(1, 0), offset: Offset(beyond) }
    );
    // What is taken away before it is uploaded is never part of the log.
    done(&mut image, &start(8));
    let (_, changes) =
        check(&image, &commit(1, 10, 20, 2, vec![extent(tp(1, 0), 5, 8, 2), extent(tp(1, 0), 8, 9, 2)])).unwrap();
    let put: Vec<i64> = changes
        .iter()
        .filter_map(|change| if let Change::PutExtent(extent) = change { Some(extent.base_offset.0) } else { None })
        .collect();
    assert_eq!(put, [8]);
    assert!(changes.iter().any(|change| matches!(change, Change::PutObject { live: 1, .. })));
    done(&mut image, &Command::DeleteTopic { id: topic_id(1), at: AT });
    assert!(image.trims.is_empty());
}

#[test]
fn producer_ids_are_given_once() {
    let mut image = cluster();
    let first = done(&mut image, &Command::AllocateProducerIds { count: 10 });
    assert_eq!(first, Reply::ProducerIds { first: ProducerId(1), count: 10 });
    let second = done(&mut image, &Command::AllocateProducerIds { count: 1 });
    assert_eq!(second, Reply::ProducerIds { first: ProducerId(11), count: 1 });
    assert!(matches!(refused(&image, &Command::AllocateProducerIds { count: 0 }), Refusal::Invalid(_)));
}

fn alter(changes: &[(&str, ConfigOp)], replace: bool) -> Command {
    let changes = changes.iter().map(|(key, op)| ConfigChange { key: (*key).into(), op: op.clone() }).collect();
    Command::AlterTopicConfigs { topic: topic_id(1), changes, replace }
}

#[test]
fn configuration_is_set_deleted_appended_and_subtracted() {
    let mut image = cluster();
    let set = |value: &str| ConfigOp::Set(value.into());
    repeated(
        &mut image,
        &alter(&[("retention.ms", set("5")), ("cleanup.policy", ConfigOp::Append("compact".into()))], false),
    );
    let configs = |image: &Image| (*image.topics[&topic_id(1)].configs).clone();
    assert_eq!(configs(&image)["cleanup.policy"], "delete,compact");
    repeated(&mut image, &alter(&[("cleanup.policy", ConfigOp::Subtract("delete".into()))], false));
    assert_eq!(configs(&image)["cleanup.policy"], "compact");
    repeated(&mut image, &alter(&[("retention.ms", ConfigOp::Delete)], false));
    assert!(!configs(&image).contains_key("retention.ms"));
    repeated(&mut image, &alter(&[("retention.ms", set("6"))], true));
    assert_eq!(configs(&image), Configs::from([("retention.ms".to_owned(), "6".to_owned())]));
    for wrong in [
        ("no.such.key", set("1")),
        ("no.such.key", ConfigOp::Delete),
        ("retention.ms", set("soon")),
        ("retention.ms", ConfigOp::Append("1".into())),
    ] {
        let name = wrong.0;
        let Refusal::InvalidConfig(why) = refused(&image, &alter(&[wrong], false)) else { panic!("another refusal") };
        assert!(why.contains(name), "{why}");
    }
    let mut wrong = create("u", 2, 1);
    if let Command::CreateTopic { configs, .. } = &mut wrong {
        configs.insert("no.such.key".into(), "1".into());
    }
    assert!(matches!(refused(&image, &wrong), Refusal::InvalidConfig(_)));
}

#[test]
fn brokers_have_configuration_of_their_own_and_in_common() {
    let mut image = cluster();
    let alter = |broker: Option<i32>, key: &str, value: &str| Command::AlterBrokerConfigs {
        broker: broker.map(BrokerId),
        changes: vec![ConfigChange { key: key.into(), op: ConfigOp::Set(value.into()) }],
        replace: false,
    };
    repeated(&mut image, &alter(None, "message.max.bytes", "100"));
    repeated(&mut image, &alter(Some(1), "message.max.bytes", "200"));
    assert_eq!(image.broker_config(BrokerId(1))["message.max.bytes"], "200");
    assert_eq!(image.broker_config(BrokerId(2))["message.max.bytes"], "100");
    assert!(matches!(refused(&image, &alter(None, "num.partitions", "3")), Refusal::InvalidConfig(_)), "read-only");
    assert_eq!(refused(&image, &alter(Some(2), "message.max.bytes", "1")), Refusal::UnknownBroker(BrokerId(2)));
}

#[test]
#[should_panic(expected = "the frontier only grows")]
fn a_frontier_that_falls_stops_everything() {
    let mut image = cluster();
    done(&mut image, &commit(1, 0, 10, 1, vec![extent(tp(1, 0), 0, 5, 1)]));
    let fallen = PartitionState { frontier: Offset(4), ..state(&image, tp(1, 0)) };
    image.apply(&[Change::PutPartition(tp(1, 0), Arc::new(fallen))]);
}

#[test]
#[should_panic(expected = "its end is written once")]
fn a_second_end_stops_everything() {
    let mut image = cluster();
    returned(&mut image);
    done(&mut image, &seal(1, 1, Some(20), 2, &[(tp(1, 0), 8)]));
    let again =
        Journal { state: JournalState::Sealed { end: Position(30) }, ..(*image.journals[&JournalId(1)]).clone() };
    image.apply(&[Change::PutJournal(Arc::new(again))]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn histories_keep_every_promise(steps in proptest::collection::vec(world::step(), 1..80)) {
        world::World::new().live(&steps);
    }
}
