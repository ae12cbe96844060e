//! A whole cluster is clean, also while it changes; each kind of damage is found, and named.

use object_store::{ObjectStoreExt, PutPayload};
use objects::Path;
use objects::format::{ExtentSource, ObjectBuilder};
use records::{Batch, Builder, Clock as _, Codec, Headers};

use super::*;
use crate::machine::{Change, ObjectMeta};
use crate::store::local::{Swept, Work};

struct World {
    ground: Ground,
    controller: Controller,
    journal: JournalId,
    ends: std::collections::BTreeMap<TopicPartition, i64>,
    uploaded: u64,
}

/// An object that was uploaded: its key, its size, and where its footer begins.
struct Uploaded {
    key: Path,
    id: Uuid,
    size: u64,
    extents: Vec<objects::Extent>,
}

impl World {
    async fn new() -> Self {
        let ground = Ground::new();
        let controller = ground.open().await;
        let handle = controller.handle();
        let journal = start(&handle).await;
        submit(&handle, create("t", 1, 2)).await;
        submit(&handle, create("u", 2, 1)).await;
        Self { ground, controller, journal, ends: Default::default(), uploaded: 0 }
    }

    fn batch(base: i64) -> Batch {
        let mut builder = Builder::new(Codec::None);
        for n in 0..10 {
            builder.push(Timestamp(1000 + n), None, Some(b"a value of some bytes"), &Headers::NONE).unwrap();
        }
        let mut batch = builder.build();
        batch.assign(Offset(base), records::LeaderEpoch(1));
        batch
    }

    /// A real object with two batches of each of these partitions.
    async fn upload(&mut self, partitions: &[TopicPartition]) -> Uploaded {
        let id = self.ground.options.random.uuid();
        let (from, to) = (Position(self.uploaded), Position(self.uploaded + 100));
        let mut builder = ObjectBuilder::new(id, self.journal, from, to);
        for of in partitions {
            let end = self.ends.entry(*of).or_default();
            let batches = vec![Self::batch(*end), Self::batch(*end + 10)];
            *end += 20;
            let producer_snapshot = bytes::Bytes::from_static(b"producers");
            builder
                .push(ExtentSource { topic_partition: *of, batches, producer_snapshot, aborted: Vec::new() })
                .unwrap();
        }
        let built = builder.finish();
        let key = objects::keys::data_key("c1", self.journal, from, id);
        self.ground.store.put(&key, built.payload).await.unwrap();
        let commit = Command::CommitObject {
            journal: self.journal,
            from,
            to,
            object: ObjectMeta { id, key: key.to_string(), size: built.size },
            extents: built.extents.clone(),
            newest_append: AT,
            durable_seen: to,
            at: self.ground.clock.now(),
        };
        submit(&self.controller.handle(), commit).await;
        self.uploaded += 100;
        Uploaded { key, id, size: built.size, extents: built.extents }
    }

    async fn check(&self, depth: Depth) -> Report {
        let store = self.ground.options.store.clone();
        let inspector = Inspector::open(store, "c1").await.unwrap();
        inspector.check(depth, self.ground.clock.now(), Duration::ZERO, || ()).await.unwrap()
    }

    async fn kinds(&self, depth: Depth) -> Vec<FindingKind> {
        let report = self.check(depth).await;
        assert_eq!(report.finding_count, report.findings.len() as u64);
        report.findings.into_iter().map(|finding| finding.kind).collect()
    }

    /// Changes rows behind everybody's back.
    async fn meddle(&self, changes: Vec<Change>) {
        let (done, swept) = tokio::sync::oneshot::channel();
        let work = Swept { changes, bytes: Default::default(), ends: Vec::new(), done };
        self.controller.local.shared.work.send(Work::Sweep(work)).await.unwrap();
        swept.await.unwrap();
    }

    async fn bytes(&self, key: &Path) -> Vec<u8> {
        self.ground.store.get(key).await.unwrap().bytes().await.unwrap().to_vec()
    }

    /// Puts the object with this change in its bytes.
    async fn damage(&self, key: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let whole = self.bytes(key).await;
        let mut bytes = whole.clone();
        change(&mut bytes);
        self.ground.store.put(key, PutPayload::from(bytes)).await.unwrap();
        whole
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_as_it_should_be_is_clean() {
    let mut world = World::new().await;
    world.upload(&[tp(1, 0), tp(1, 1), tp(2, 0)]).await;
    world.upload(&[tp(1, 0)]).await;
    submit(&world.controller.handle(), Command::SetLogStart { topic_partition: tp(1, 0), offset: Offset(25) }).await;
    submit(&world.controller.handle(), Command::DeleteTopic { id: TopicId(Uuid::from_u128(2)), at: AT }).await;
    let report = world.check(Depth::Full).await;
    assert_eq!((&report.findings[..], report.ended_early), (&[][..], false), "{report:?}");
    assert_eq!((report.partitions, report.objects, report.garbage), (2, 2, 0));
    assert!(report.extents >= 2 && report.object_bytes > 0);
    assert_eq!(
        Inspector::open(world.ground.options.store.clone(), "c2").await.unwrap_err().to_string(),
        "there is no cluster 'c2' in this store"
    );
    // Nobody was fenced by it.
    submit(&world.controller.handle(), create("late", 9, 1)).await;
    world.controller.close().await;
}

#[tokio::test(start_paused = true)]
async fn damage_in_the_store_is_found_and_named() {
    let mut world = World::new().await;
    world.upload(&[tp(1, 1)]).await;
    let object = world.upload(&[tp(1, 0), tp(1, 1)]).await;
    let key = &object.key;
    let flip = |at: usize| move |bytes: &mut Vec<u8>| bytes[at] ^= 4;
    let second = usize::try_from(object.extents[1].position).unwrap();
    let index = usize::try_from(object.extents[0].index.position).unwrap();
    let producers = usize::try_from(object.extents[0].producers.position).unwrap();
    let footer = usize::try_from(object.size).unwrap() - 40;
    for (what, at) in [("records", 90), ("an offset", second + 7), ("a length", second + 9), ("an epoch", 15)] {
        let whole = world.damage(key, flip(at)).await;
        let report = world.check(Depth::Full).await;
        assert_eq!(report.finding_count, 1, "{what}: {report:?}");
        assert_eq!(report.findings[0].kind, FindingKind::ObjectContents, "{what}");
        assert_eq!(report.findings[0].subject, key.to_string());
        assert!(report.findings[0].found.contains("offsets "), "{report:?}");
        assert_eq!(world.kinds(Depth::Footers).await, [], "{what}: the footer is whole");
        world.ground.store.put(key, PutPayload::from(whole)).await.unwrap();
    }
    for (what, at) in [("an index", index), ("producers", producers)] {
        let whole = world.damage(key, flip(at)).await;
        assert_eq!(world.kinds(Depth::Full).await, [FindingKind::ObjectContents], "{what}");
        world.ground.store.put(key, PutPayload::from(whole)).await.unwrap();
    }
    let whole = world.damage(key, flip(footer)).await;
    assert_eq!(world.kinds(Depth::Footers).await, [FindingKind::ObjectFooter]);
    world.damage(key, |bytes| bytes.truncate(100)).await;
    assert_eq!(world.kinds(Depth::Footers).await, [FindingKind::ObjectSize], "truncated");
    world.damage(key, |bytes| bytes.clear()).await;
    assert_eq!(world.kinds(Depth::Footers).await, [FindingKind::ObjectSize], "empty");
    let mut longer = whole.clone();
    longer.push(0);
    world.ground.store.put(key, PutPayload::from(longer)).await.unwrap();
    assert_eq!(world.kinds(Depth::Footers).await, [FindingKind::ObjectSize], "longer");
    world.ground.store.delete(key).await.unwrap();
    assert_eq!(world.kinds(Depth::Footers).await, [FindingKind::ObjectMissing]);
    world.ground.store.put(key, PutPayload::from(whole)).await.unwrap();
    assert_eq!(world.kinds(Depth::Full).await, [], "as before");
    let orphan = objects::keys::data_key("c1", world.journal, Position(0), Uuid::from_u128(77));
    world.ground.store.put(&orphan, PutPayload::from_static(b"x")).await.unwrap();
    let report = world.check(Depth::Footers).await;
    assert_eq!((report.orphans, report.orphan_bytes, report.findings[0].kind), (1, 1, FindingKind::Orphan));
    world.controller.close().await;
}

#[tokio::test(start_paused = true)]
async fn damage_in_the_metadata_is_found_and_named() {
    use FindingKind::*;
    let mut world = World::new().await;
    let first = world.upload(&[tp(1, 0)]).await;
    let second = world.upload(&[tp(1, 0), tp(1, 1)]).await;
    world.upload(&[tp(1, 0)]).await;
    let extent = |of: &Uploaded, nth: usize| of.extents[nth].clone();
    let put = |extent: objects::Extent| Change::PutExtent(Box::new(extent));
    let delete = |extent: &objects::Extent| Change::DeleteExtent {
        topic_partition: extent.topic_partition,
        end_offset: extent.end_offset,
    };
    let row = |of: &Uploaded, live: u32| Change::PutObject {
        object: ObjectMeta { id: of.id, key: of.key.to_string(), size: of.size },
        live,
    };
    let mut other = extent(&second, 0);
    other.position += 1;
    let mut stray = extent(&second, 0);
    stray.topic_partition = tp(7, 0);
    let mut overlapping = extent(&second, 0);
    (overlapping.base_offset, overlapping.end_offset) = (Offset(15), Offset(35));
    let mut wrong_size = row(&second, 2);
    if let Change::PutObject { object, .. } = &mut wrong_size {
        object.size += 1;
    }
    type Case = (&'static str, Vec<Change>, Vec<Change>, Vec<FindingKind>);
    let cases: Vec<Case> = vec![
        (
            "a gap in the middle",
            vec![delete(&extent(&second, 0))],
            vec![put(extent(&second, 0))],
            vec![Gap, Count, Count],
        ),
        ("a gap at the start", vec![delete(&extent(&first, 0))], vec![put(extent(&first, 0))], vec![Gap, Count, Count]),
        ("another extent", vec![put(other)], vec![put(extent(&second, 0))], vec![ExtentDiffers]),
        ("a wrong count", vec![row(&second, 5)], vec![row(&second, 2)], vec![Count]),
        ("a wrong size", vec![wrong_size], vec![row(&second, 2)], vec![ObjectSize]),
        ("no object", vec![Change::DeleteObject(first.id)], vec![row(&first, 1)], vec![ExtentWithoutObject, Orphan]),
        ("no partition", vec![put(stray.clone())], vec![delete(&stray)], vec![ExtentMisplaced]),
        (
            "two extents of the same offsets",
            vec![put(overlapping.clone())],
            vec![delete(&overlapping)],
            vec![ExtentMisplaced, ExtentMisplaced, Count],
        ),
    ];
    for (what, damage, repair, expected) in cases {
        world.meddle(damage).await;
        let mut found = world.kinds(Depth::Footers).await;
        found.sort_unstable();
        let mut expected = expected;
        expected.sort_unstable();
        assert_eq!(found, expected, "{what}");
        world.meddle(repair).await;
        assert_eq!(world.kinds(Depth::Footers).await, [], "{what}: repaired");
    }
    world.controller.close().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_is_all_counted_and_listed_up_to_a_bound() {
    let mut world = World::new().await;
    let whole = world.upload(&[tp(1, 0)]).await;
    let without_object = |offset: i64| {
        let mut extent = whole.extents[0].clone();
        (extent.base_offset, extent.end_offset) = (Offset(offset), Offset(offset + 1));
        extent.object = Uuid::from_u128(7);
        Change::PutExtent(Box::new(extent))
    };
    world.meddle((1000..4000).map(without_object).collect()).await;
    let report = world.check(Depth::Footers).await;
    // Each of them, the gap before them, that they go beyond the frontier, and the partition's bytes.
    assert_eq!((report.findings.len(), report.finding_count), (1000, 3003));
    world.controller.close().await;
}

#[tokio::test(start_paused = true)]
async fn what_changes_meanwhile_is_no_finding() {
    let mut world = World::new().await;
    world.ground.options.delete_grace = Duration::from_secs(1);
    let controller = std::mem::replace(&mut world.controller, world.ground.open().await);
    drop(controller);
    let store = world.ground.options.store.clone();
    let clock = world.ground.clock.clone();
    let handle = world.controller.handle();
    let changing = async {
        for n in 0..60_u128 {
            submit(&handle, create(&format!("t{n}"), 100 + n, 2)).await;
            world.upload(&[tp(1, 0), tp(100 + n, 0), tp(100 + n, 1)]).await;
            let topic_partition = tp(1, 0);
            let offset = Offset(i64::try_from(n).unwrap() * 20);
            submit(&handle, Command::SetLogStart { topic_partition, offset }).await;
            if n >= 2 {
                let id = TopicId(Uuid::from_u128(100 + n - 2));
                submit(&handle, Command::DeleteTopic { id, at: world.ground.clock.now() }).await;
            }
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
    };
    let checking = async {
        let inspector = Inspector::open(store, "c1").await.unwrap();
        let mut objects = 0;
        for _ in 0..40 {
            let seen = || ();
            let report = inspector.check(Depth::Full, clock.now(), Duration::ZERO, seen).await.unwrap();
            assert_eq!(report.findings, [], "{report:?}");
            objects = objects.max(report.objects);
            tokio::time::sleep(Duration::from_millis(900)).await;
        }
        objects
    };
    let ((), objects) = tokio::join!(changing, checking);
    assert!(objects > 0);
    world.controller.close().await;
}
