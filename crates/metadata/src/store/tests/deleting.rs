//! What nothing refers to any more leaves the store after its grace time: not before, also after crashes, and however
//! the store behaves.

use object_store::{ObjectStoreExt, PutPayload};
use objects::Path;
use prost::Message;
use records::Clock as _;

use super::*;
use crate::machine::Change;
use crate::store::local::{Swept, Work};

const GRACE: Duration = Duration::from_secs(900);

/// The nth object of the journal with its bytes in the store: one extent of ten offsets of each of these partitions.
async fn upload(ground: &Ground, handle: &Handle, journal: JournalId, nth: u64, partitions: &[TopicPartition]) -> Path {
    let mut command = commit(journal, nth, partitions);
    let Command::CommitObject { object, from, .. } = &mut command else { unreachable!() };
    let key = objects::keys::data_key("c1", journal, *from, object.id);
    object.key = key.to_string();
    ground.store.put(&key, PutPayload::from_static(b"an object")).await.unwrap();
    submit(handle, command).await;
    key
}

async fn is_there(ground: &Ground, key: &Path) -> bool {
    ground.store.head(key).await.is_ok()
}

/// Waits until it is so; time passes meanwhile.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..20_000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("waited in vain until {what}");
}

fn delete_topic(id: u128, ground: &Ground) -> Command {
    Command::DeleteTopic { id: TopicId(Uuid::from_u128(id)), at: ground.clock.now() }
}

#[tokio::test(start_paused = true)]
async fn an_object_goes_when_its_grace_time_is_over_and_its_last_extent_is_gone() {
    let ground = Ground::new();
    let controller = ground.open().await;
    let handle = controller.handle();
    let journal = start(&handle).await;
    submit(&handle, create("one", 1, 1)).await;
    submit(&handle, create("two", 2, 1)).await;
    let shared = upload(&ground, &handle, journal, 0, &[tp(1, 0), tp(2, 0)]).await;
    let own = upload(&ground, &handle, journal, 1, &[tp(1, 0)]).await;
    submit(&handle, delete_topic(1, &ground)).await;
    wait_for(&handle, "the topic is removed", |image| image.deleted.is_empty()).await;
    assert_eq!(ground.options.metrics.now(), (1, 1001, 0, 0), "one object waits");
    tokio::time::sleep(GRACE - Duration::from_secs(60)).await;
    assert!(is_there(&ground, &own).await, "somebody may still read it");
    until("it is deleted", async || !is_there(&ground, &own).await).await;
    until("it is forgotten", async || controller.local.garbage_after(None, 9).await.unwrap().is_empty()).await;
    assert!(is_there(&ground, &shared).await, "the other topic has records in it");
    assert_eq!(handle.extents(tp(2, 0), Offset(0), 9).await.unwrap().len(), 1);
    submit(&handle, delete_topic(2, &ground)).await;
    until("it is deleted", async || !is_there(&ground, &shared).await).await;
    until("it is counted", async || ground.options.metrics.now() == (0, 0, 2, 2001)).await;
    // Nothing is left to do, so nothing is asked.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    ground.store.take_counts();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let counts = ground.store.take_counts();
    assert_eq!((counts.get("DELETE"), counts.get("PUT")), (None, None), "{counts:?}");
    controller.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_delays_deleting_and_nothing_else() {
    let ground = Ground::new();
    let controller = ground.open().await;
    let handle = controller.handle();
    let journal = start(&handle).await;
    submit(&handle, create("one", 1, 1)).await;
    let key = upload(&ground, &handle, journal, 0, &[tp(1, 0)]).await;
    ground.store.let_deletes_pass(false);
    submit(&handle, delete_topic(1, &ground)).await;
    tokio::time::sleep(GRACE * 2).await;
    ground.store.take_counts();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let tries = ground.store.take_counts()["DELETE"];
    assert!((30..=70).contains(&tries), "{tries} tries in an hour");
    assert_eq!(controller.local.garbage_after(None, 9).await.unwrap().len(), 1, "it is not forgotten");
    submit(&handle, create("other", 2, 1)).await;
    ground.store.let_deletes_pass(true);
    until("it is deleted", async || !is_there(&ground, &key).await).await;
    until("it is forgotten", async || controller.local.garbage_after(None, 9).await.unwrap().is_empty()).await;
    controller.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_the_object_and_its_row_does_no_harm() {
    // A folder says that an object is not there, where S3 says that it is deleted.
    let folder = tempfile::tempdir().unwrap();
    let files = objects::open(&format!("file://{}", folder.path().display()), &[]).unwrap();
    for store in [files, Store::new(TestStore::new(), "test")] {
        let mut ground = Ground::new();
        ground.options.store = store.clone();
        let controller = ground.open().await;
        let handle = controller.handle();
        let journal = start(&handle).await;
        submit(&handle, create("one", 1, 1)).await;
        let mut keys = Vec::new();
        for nth in 0..3 {
            let key = upload(&ground, &handle, journal, nth, &[tp(1, 0)]).await;
            store.object_store().put(&key, PutPayload::from_static(b"an object")).await.unwrap();
            keys.push(key);
        }
        submit(&handle, delete_topic(1, &ground)).await;
        wait_for(&handle, "the topic is removed", |image| image.deleted.is_empty()).await;
        // As it is when the object was deleted and the process ended before its row was.
        store.object_store().delete(&keys[1]).await.unwrap();
        drop(controller);
        let controller = ground.open().await;
        assert_eq!(controller.local.garbage_after(None, 9).await.unwrap().len(), 3);
        until("all are forgotten", async || controller.local.garbage_after(None, 9).await.unwrap().is_empty()).await;
        for key in &keys {
            assert!(store.object_store().head(key).await.is_err(), "{key}");
        }
        controller.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn many_small_trims_share_their_puts() {
    let ground = Ground::new();
    let controller = ground.open().await;
    let handle = controller.handle();
    let journal = start(&handle).await;
    submit(&handle, create("t", 1, 300)).await;
    let all: Vec<TopicPartition> = (0..300).map(|partition| tp(1, partition)).collect();
    submit(&handle, commit(journal, 0, &all)).await;
    submit(&handle, commit(journal, 1, &all)).await;
    assert_eq!(handle.image().partition(all[0]).unwrap().bytes, 200);
    ground.store.take_counts();
    let moves = all.iter().map(|of| submit(&handle, Command::SetLogStart { topic_partition: *of, offset: Offset(10) }));
    futures::future::join_all(moves).await;
    wait_for(&handle, "the trims are over", |image| image.trims.is_empty()).await;
    let puts = ground.store.take_counts()["PUT"];
    assert!(puts <= 8, "{puts} PUTs for 300 partitions");
    assert!(all.iter().all(|of| handle.image().partition(*of).unwrap().bytes == 100));
    controller.close().await;
}

#[tokio::test(start_paused = true)]
async fn rows_of_an_earlier_version_are_counted_when_they_are_read() {
    let ground = Ground::new();
    let controller = ground.open().await;
    let handle = controller.handle();
    let journal = start(&handle).await;
    submit(&handle, create("t", 1, 2)).await;
    submit(&handle, commit(journal, 0, &[tp(1, 0), tp(1, 1)])).await;
    submit(&handle, commit(journal, 1, &[tp(1, 0)])).await;
    let image = handle.image();
    controller.close().await;
    let database = database::Database::open(&ground.options, None).await.unwrap();
    for of in [tp(1, 0), tp(1, 1)] {
        let state = image.partition(of).unwrap().clone();
        let mut row = table::Table::default();
        row.write(&[Change::PutPartition(of, state)]);
        let (key, value) = row.only();
        let stored = proto::metadata::Partition::decode(&value[..]).unwrap();
        let before = proto::metadata::Partition { bytes: None, ..stored };
        let mut batch = slatedb::WriteBatch::new();
        batch.put(key, before.encode_to_vec());
        database.db.write(batch).await.unwrap();
    }
    database.db.flush().await.unwrap();
    database.close().await;
    let controller = ground.open().await;
    assert_eq!(*controller.handle().image(), *image);
    assert_eq!(image.partition(tp(1, 0)).unwrap().bytes, 200);
    controller.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_sweep_counts_from_what_the_partition_is_by_then() {
    let ground = Ground::new();
    let controller = ground.open().await;
    let handle = controller.handle();
    let journal = start(&handle).await;
    submit(&handle, create("t", 1, 1)).await;
    submit(&handle, commit(journal, 0, &[tp(1, 0)])).await;
    // What a sweeper found before the next commit, and hands in after it.
    let (done, swept) = tokio::sync::oneshot::channel();
    let work = Swept {
        changes: vec![Change::DeleteExtent { topic_partition: tp(1, 0), end_offset: Offset(10) }],
        bytes: [(tp(1, 0), 100), (tp(9, 0), 100)].into(),
        ends: Vec::new(),
        done,
    };
    submit(&handle, commit(journal, 1, &[tp(1, 0)])).await;
    controller.local.shared.work.send(Work::Sweep(work)).await.unwrap();
    swept.await.unwrap();
    let state = handle.image().partition(tp(1, 0)).unwrap().clone();
    assert_eq!((state.bytes, state.frontier), (100, Offset(20)));
    controller.close().await;
}
