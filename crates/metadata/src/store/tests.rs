//! The store on a store in memory and on files: durability, fencing, faults, requests, speed.

mod checking;
mod deleting;
mod faults;
pub(crate) mod faulty;
mod feeding;
mod limits;
mod orphaned;
pub(crate) mod table;

use std::sync::Arc;
use std::time::Duration;

use objects::Store;
use records::{
    BrokerId, Incarnation, JournalId, Offset, Partition, Position, ProducerId, Timestamp, TopicId, TopicPartition,
};
use uuid::Uuid;

use self::faulty::{TestClock, TestRandom, TestStore};
use super::*;
use crate::handle::{Handle, QueryError, SubmitError};
use crate::machine::{Command, ConfigChange, ConfigOp, Configs, Image, JournalState, ObjectMeta, Refusal, Reply};

pub(crate) const AT: Timestamp = Timestamp(1_000);

/// What survives controllers: the store, the clock, the randomness.
pub(crate) struct Ground {
    pub(crate) store: Arc<TestStore>,
    pub(crate) clock: Arc<TestClock>,
    options: Options,
}

impl Ground {
    pub(crate) fn new() -> Self {
        Self::on(TestStore::new())
    }

    pub(crate) fn on(store: Arc<TestStore>) -> Self {
        let clock = TestClock::new();
        let options = Options::new(Store::new(store.clone(), "test"), "c1", clock.clone(), TestRandom::new(1));
        Self { store, clock, options }
    }

    pub(crate) async fn open(&self) -> Controller {
        Controller::open(self.options.clone()).await.unwrap()
    }
}

pub(crate) fn tp(topic: u128, partition: i32) -> TopicPartition {
    TopicPartition { topic: TopicId(Uuid::from_u128(topic)), partition: Partition(partition) }
}

pub(crate) fn create(name: &str, id: u128, partitions: u32) -> Command {
    let configs = Configs::from([("retention.ms".to_owned(), "5".to_owned())]);
    Command::CreateTopic { name: name.into(), id: TopicId(Uuid::from_u128(id)), partitions, configs, at: AT }
}

pub(crate) async fn submit(handle: &Handle, command: Command) -> Reply {
    handle.submit(command).await.unwrap()
}

/// Registers a broker, opens its journal.
pub(crate) async fn start(handle: &Handle) -> JournalId {
    let register = Command::RegisterBroker { name: "a".into(), zone: "z".into(), endpoints: Vec::new(), at: AT };
    let Reply::Registered { broker, incarnation } = submit(handle, register).await else { panic!("registered") };
    let open = Command::OpenJournal { owner: broker, incarnation, members: vec![broker], ack_quorum: 1, at: AT };
    let Reply::JournalOpened { journal } = submit(handle, open).await else { panic!("opened") };
    journal
}

/// One object with an extent of ten offsets of each of these partitions.
pub(crate) fn commit(journal: JournalId, nth: u64, partitions: &[TopicPartition]) -> Command {
    let id = Uuid::from_u128(u128::from(journal.0) << 64 | u128::from(nth + 1));
    let base = i64::try_from(nth).unwrap() * 10;
    let extent = |of: &TopicPartition| objects::Extent {
        topic_partition: *of,
        base_offset: Offset(base),
        end_offset: Offset(base + 10),
        position: 17,
        len: 100,
        crc: 3,
        batch_count: 2,
        record_count: 10,
        max_timestamp: Timestamp(1000 + base),
        index: objects::format::Block { position: 1, len: 2, crc: 3 },
        producers: objects::format::Block { position: 4, len: 5, crc: 6 },
        object: id,
    };
    Command::CommitObject {
        journal,
        from: Position(nth * 100),
        to: Position(nth * 100 + 100),
        object: ObjectMeta { id, key: format!("c1/data/ab/{nth}"), size: 1000 + nth },
        extents: partitions.iter().map(extent).collect(),
        newest_append: AT,
        durable_seen: Position(nth * 100 + 100),
        at: AT,
    }
}

/// Waits until the image is as wanted, with a deadline.
pub(crate) async fn wait_for(handle: &Handle, what: &str, wanted: impl Fn(&Image) -> bool) {
    let mut images = handle.watch();
    let waited = tokio::time::timeout(Duration::from_secs(60), images.wait_for(|image| wanted(image))).await;
    assert!(waited.is_ok(), "waited in vain until {what}");
}

/// A history with every command in it.
async fn history(handle: &Handle) {
    let journal = start(handle).await;
    submit(handle, create("t", 1, 3)).await;
    submit(handle, create("gone", 2, 2)).await;
    submit(handle, Command::CreatePartitions { topic: TopicId(Uuid::from_u128(1)), total: 4 }).await;
    submit(handle, commit(journal, 0, &[tp(1, 0), tp(1, 3), tp(2, 0)])).await;
    submit(handle, commit(journal, 1, &[tp(1, 0)])).await;
    let change = |key: &str, value: &str| ConfigChange { key: key.into(), op: ConfigOp::Set(value.into()) };
    let topic = TopicId(Uuid::from_u128(1));
    let changes = vec![change("cleanup.policy", "compact")];
    submit(handle, Command::AlterTopicConfigs { topic, changes, replace: false }).await;
    for broker in [None, Some(BrokerId(1))] {
        let changes = vec![change("message.max.bytes", "77")];
        submit(handle, Command::AlterBrokerConfigs { broker, changes, replace: false }).await;
    }
    submit(handle, Command::AllocateProducerIds { count: 10 }).await;
    submit(handle, Command::SetLogStart { topic_partition: tp(1, 0), offset: Offset(12) }).await;
    submit(handle, Command::DeleteTopic { id: TopicId(Uuid::from_u128(2)), at: AT }).await;
    let next = start(handle).await;
    let Reply::Recovering { epoch } = submit(handle, Command::RecoverJournal { journal, by: BrokerId(1) }).await else {
        panic!("recovering")
    };
    let seal = Command::SealJournal {
        journal,
        epoch,
        end: Some(Position(300)),
        successor: next,
        partitions: vec![(tp(1, 3), Offset(15)).into()],
        at: AT,
    };
    submit(handle, seal).await;
    let third = start(handle).await;
    submit(handle, Command::RecoverJournal { journal: next, by: BrokerId(1) }).await;
    let lost =
        Command::SealJournal { journal: next, epoch: 1, end: None, successor: third, partitions: Vec::new(), at: AT };
    submit(handle, lost).await;
    submit(handle, Command::AbandonJournal { journal, at: AT }).await;
}

#[tokio::test(start_paused = true)]
async fn a_reply_is_durable_and_the_rows_make_the_same_image() {
    let ground = Ground::new();
    let controller = ground.open().await;
    let handle = controller.handle();
    history(&handle).await;
    wait_for(&handle, "the sweep is over", |image| image.deleted.is_empty() && image.trims.is_empty()).await;
    let image = handle.image();
    assert_eq!(image.journals[&JournalId(1)].state, JournalState::Drained);
    // Not closed: as if killed.
    drop(controller);
    let again = ground.open().await;
    assert_eq!(*again.handle().image(), *image);
    assert_eq!(again.close().await, StopReason::Closed);
    let controller = ground.open().await;
    assert_eq!(*controller.handle().image(), *image);
    controller.close().await;
}

#[tokio::test]
async fn it_works_on_files() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    let store = objects::open(&url, &[]).unwrap();
    let options = Options::new(store, "c1", TestClock::new(), TestRandom::new(1));
    let controller = Controller::open(options.clone()).await.unwrap();
    history(&controller.handle()).await;
    wait_for(&controller.handle(), "the sweep is over", |image| image.deleted.is_empty() && image.trims.is_empty())
        .await;
    let image = controller.handle().image();
    drop(controller);
    let second = Controller::open(options.clone()).await.unwrap();
    assert_eq!(*second.handle().image(), *image);
    let extents = second.handle().extents(tp(1, 0), Offset(0), 10).await.unwrap();
    assert_eq!(extents.len(), 1);
    // Another opening takes over; the one before notices at its next write.
    let third = Controller::open(options).await.unwrap();
    let late = second.handle().submit(create("late", 9, 1)).await;
    assert_eq!(late, Err(SubmitError::Fenced));
    assert_eq!(third.handle().image().topic("late"), None);
    second.close().await;
    third.close().await;
}

#[tokio::test(start_paused = true)]
async fn extents_are_found_by_offset_and_by_time() {
    let ground = Ground::new();
    let controller = ground.open().await;
    let handle = controller.handle();
    let journal = start(&handle).await;
    submit(&handle, create("t", 1, 2)).await;
    for nth in 0..5 {
        submit(&handle, commit(journal, nth, &[tp(1, 0), tp(1, 1)])).await;
    }
    let found = |from: i64, limit: usize| {
        let handle = handle.clone();
        async move {
            let extents = handle.extents(tp(1, 0), Offset(from), limit).await.unwrap();
            extents.iter().map(|located| located.extent.base_offset.0).collect::<Vec<_>>()
        }
    };
    assert_eq!(found(0, 2).await, [0, 10]);
    assert_eq!(found(9, 1).await, [0]);
    assert_eq!(found(10, 9).await, [10, 20, 30, 40]);
    assert_eq!(found(49, 9).await, [40]);
    assert_eq!(found(50, 9).await, [0; 0], "the other partition's extents are not this one's");
    assert_eq!(found(0, 0).await, [0; 0]);
    assert_eq!(found(i64::MAX, 1).await, [0; 0]);
    let extents = handle.extents(tp(1, 1), Offset(25), 1).await.unwrap();
    assert_eq!((extents[0].key.as_ref(), extents[0].size), ("c1/data/ab/2", 1002));
    let Command::CommitObject { extents: committed, .. } = commit(journal, 2, &[tp(1, 1)]) else { panic!("a commit") };
    assert_eq!(extents[0].extent, committed[0], "every field is kept");
    assert!(handle.extents(tp(7, 0), Offset(0), 1).await.unwrap().is_empty());
    let by_time = |from: i64, at: i64| {
        let handle = handle.clone();
        async move {
            let found = handle.extent_by_timestamp(tp(1, 0), Offset(from), Timestamp(at)).await.unwrap();
            found.map(|located| located.extent.base_offset.0)
        }
    };
    assert_eq!(by_time(0, 0).await, Some(0));
    assert_eq!(by_time(0, 1011).await, Some(20));
    assert_eq!(by_time(25, 0).await, Some(20));
    assert_eq!(by_time(0, 1041).await, None);
    submit(&handle, Command::SetLogStart { topic_partition: tp(1, 0), offset: Offset(20) }).await;
    assert_eq!(found(0, 1).await, [20], "nothing below the log start, removed or not");
    controller.close().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_deleted_is_removed_bit_by_bit_and_its_objects_become_garbage() {
    let ground = Ground::new();
    let controller = ground.open().await;
    let handle = controller.handle();
    let journal = start(&handle).await;
    submit(&handle, create("big", 1, 700)).await;
    submit(&handle, create("small", 2, 1)).await;
    let all: Vec<TopicPartition> = (0..700).map(|partition| tp(1, partition)).collect();
    for nth in 0..4 {
        let mut partitions = all.clone();
        if nth % 2 == 0 {
            partitions.push(tp(2, 0));
        }
        let mut command = commit(journal, nth, &partitions);
        // The small topic has half as many extents.
        if let Command::CommitObject { extents, .. } = &mut command
            && let Some(small) = extents.iter_mut().find(|extent| extent.topic_partition == tp(2, 0))
        {
            let base = i64::try_from(nth).unwrap() * 5;
            (small.base_offset, small.end_offset) = (Offset(base), Offset(base + 10));
        }
        submit(&handle, command).await;
    }
    submit(&handle, Command::DeleteTopic { id: TopicId(Uuid::from_u128(1)), at: AT }).await;
    // Killed in the middle of it: the next one goes on.
    drop(controller);
    let controller = ground.open().await;
    let handle = controller.handle();
    wait_for(&handle, "the topic is removed", |image| image.deleted.is_empty()).await;
    let garbage = async || {
        let garbage = controller.local.garbage_after(None, 10).await.unwrap();
        garbage.into_iter().map(|(object, _)| object.key).collect::<Vec<_>>()
    };
    assert_eq!(garbage().await, ["c1/data/ab/1", "c1/data/ab/3"]);
    assert_eq!(handle.extents(tp(2, 0), Offset(0), 9).await.unwrap().len(), 2);
    submit(&handle, Command::SetLogStart { topic_partition: tp(2, 0), offset: Offset(10) }).await;
    wait_for(&handle, "the trim is over", |image| image.trims.is_empty()).await;
    assert_eq!(garbage().await, ["c1/data/ab/0", "c1/data/ab/1", "c1/data/ab/3"]);
    submit(&handle, Command::SetLogStart { topic_partition: tp(2, 0), offset: Offset(19) }).await;
    wait_for(&handle, "the trim is over", |image| image.trims.is_empty()).await;
    assert_eq!(garbage().await.len(), 3, "an extent stays while one of its records does");
    controller.close().await;
}

#[tokio::test(start_paused = true)]
async fn commands_of_a_batch_see_each_other() {
    let ground = Ground::new();
    let controller = ground.open().await;
    let handle = controller.handle();
    start(&handle).await;
    ground.store.take_counts();
    ground.store.let_puts_pass(false);
    let submitted: Vec<_> = (0..40u128)
        .map(|n| {
            let handle = handle.clone();
            tokio::spawn(async move { handle.submit(create(&format!("t{}", n % 20), n + 1, 1)).await })
        })
        .collect();
    tokio::task::yield_now().await;
    ground.store.let_puts_pass(true);
    let mut made = 0;
    for answer in futures::future::join_all(submitted).await {
        match answer.unwrap() {
            Ok(Reply::TopicCreated { .. }) => made += 1,
            Err(SubmitError::Refused(Refusal::TopicExists { .. })) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((made, handle.image().topics.len()), (20, 20));
    let puts = ground.store.take_counts()["PUT"];
    assert!(puts <= 3, "{puts} PUTs for 40 commands that came together");
    controller.close().await;
}

#[tokio::test(start_paused = true)]
async fn the_clusters_id_is_decided_once() {
    let ground = Ground::new();
    let ids = futures::future::join_all((0..8).map(|_| database::cluster_id(&ground.options))).await;
    let ids: Vec<Uuid> = ids.into_iter().map(Result::unwrap).collect();
    assert!(ids.iter().all(|id| *id == ids[0] && !id.is_nil()), "{ids:?}");
    let controller = ground.open().await;
    assert_eq!(controller.handle().image().cluster_id, ids[0]);
    let mut other = ground.options.clone();
    other.cluster = "c2".into();
    let second = Controller::open(other.clone()).await.unwrap();
    assert_ne!(second.handle().image().cluster_id, ids[0]);
    other.cluster = "no/name".into();
    assert!(matches!(Controller::open(other).await, Err(OpenError::ClusterName(_))));
    controller.close().await;
    second.close().await;
}

#[tokio::test(start_paused = true)]
async fn closing_answers_what_was_submitted_and_refuses_the_rest() {
    let ground = Ground::new();
    let controller = ground.open().await;
    let handle = controller.handle();
    start(&handle).await;
    ground.store.let_puts_pass(false);
    let waiting = tokio::spawn({
        let handle = handle.clone();
        async move { handle.submit(create("t", 1, 1)).await }
    });
    tokio::task::yield_now().await;
    let closing = tokio::spawn(controller.close());
    tokio::task::yield_now().await;
    ground.store.let_puts_pass(true);
    assert!(waiting.await.unwrap().is_ok());
    assert_eq!(closing.await.unwrap(), StopReason::Closed);
    assert_eq!(handle.stopped().await, StopReason::Closed);
    let late = handle.submit(create("u", 2, 1)).await;
    assert_eq!(late, Err(SubmitError::Unavailable(StopReason::Closed)));
    assert!(handle.image().topic("t").is_some(), "what was published can still be read");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_behind_the_last_ones_does_not_hold_writes_up() {
    let ground = Ground::new();
    let controller = ground.open().await;
    start(&controller.handle()).await;
    controller.close().await;
    ground.clock.shift(-3_600_000);
    let controller = ground.open().await;
    let started = tokio::time::Instant::now();
    submit(&controller.handle(), create("t", 1, 1)).await;
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    controller.close().await;
}

#[tokio::test(start_paused = true)]
async fn checking_answers_without_doing() {
    let ground = Ground::new();
    let controller = ground.open().await;
    let handle = controller.handle();
    assert_eq!(handle.check(&create("t", 1, 1)), Err(Refusal::NoOpenJournal));
    start(&handle).await;
    assert_eq!(handle.check(&create("t", 1, 1)), Ok(Reply::TopicCreated { id: TopicId(Uuid::from_u128(1)) }));
    assert!(handle.image().topic("t").is_none());
    let first = submit(&handle, Command::AllocateProducerIds { count: 5 }).await;
    assert_eq!(first, Reply::ProducerIds { first: ProducerId(1), count: 5 });
    let stale = Command::OpenJournal {
        owner: BrokerId(1),
        incarnation: Incarnation(9),
        members: vec![BrokerId(1)],
        ack_quorum: 1,
        at: AT,
    };
    let refused = handle.submit(stale).await;
    assert!(matches!(refused, Err(SubmitError::Refused(Refusal::StaleIncarnation { .. }))), "{refused:?}");
    controller.close().await;
}
