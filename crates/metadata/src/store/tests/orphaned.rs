//! The search for objects that never became part of the log.

use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use objects::Path;
use objects::keys::data_key;
use records::Clock as _;

use super::*;
use crate::store::orphans::{Orphan, Sweep, Views, before};

/// A cluster with one open journal that is uploaded up to 100.
struct World {
    ground: Ground,
    controller: Controller,
    journal: JournalId,
}

impl World {
    async fn new() -> Self {
        let mut ground = Ground::new();
        ground.options.sweep_interval = Duration::ZERO;
        let controller = ground.open().await;
        let handle = controller.handle();
        let journal = start(&handle).await;
        submit(&handle, create("t", 1, 1)).await;
        let world = Self { ground, controller, journal };
        world.upload(0).await;
        world
    }

    fn handle(&self) -> Handle {
        self.controller.handle()
    }

    async fn put(&self, key: &Path) {
        self.ground.store.put(key, PutPayload::from_static(b"an object")).await.unwrap();
    }

    /// The nth object, as an upload makes it.
    fn object(&self, nth: u64) -> (Path, Command) {
        let mut command = commit(self.journal, nth, &[tp(1, 0)]);
        let Command::CommitObject { object, from, .. } = &mut command else { unreachable!() };
        let key = data_key("c1", self.journal, *from, object.id);
        object.key = key.to_string();
        (key, command)
    }

    async fn upload(&self, nth: u64) -> Path {
        let (key, command) = self.object(nth);
        self.put(&key).await;
        submit(&self.handle(), command).await;
        key
    }

    /// An object whose upload was cut off.
    async fn plant(&self, journal: u64, from: u64) -> Path {
        let key = data_key("c1", JournalId(journal), Position(from), self.ground.options.random.uuid());
        self.put(&key).await;
        key
    }

    async fn sweep(&self, age: Duration, delete: bool) -> (Vec<Path>, crate::store::Swept) {
        let sweep = Sweep {
            store: self.ground.store.as_ref(),
            cluster: "c1",
            before: before(self.ground.clock.now(), age),
            delete,
        };
        let mut found = Vec::new();
        let swept = sweep.run(&self.controller.local, |orphan: &Orphan| found.push(orphan.key.clone())).await.unwrap();
        (found, swept)
    }

    async fn keys(&self) -> Vec<Path> {
        use futures::TryStreamExt;
        let prefix = objects::keys::data_path("c1");
        self.ground.store.list(Some(&prefix)).map_ok(|listed| listed.location).try_collect().await.unwrap()
    }
}

const OLD: Duration = Duration::ZERO;
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

#[tokio::test(start_paused = true)]
async fn what_was_never_committed_goes_and_nothing_else_does() {
    let world = World::new().await;
    let live = world.upload(1).await;
    let late = world.plant(world.journal.0, 100).await;
    let forgotten = world.plant(0, 700).await;
    let open = world.plant(world.journal.0, 200).await;
    let later = world.plant(world.journal.0, 300).await;
    let unheard_of = world.plant(77, 0).await;
    let foreign = Path::from("c1/data/ab/notes.txt");
    let other = data_key("c2", JournalId(1), Position(0), Uuid::from_u128(5));
    for key in [&foreign, &other] {
        world.put(key).await;
    }
    let (found, swept) = world.sweep(CENTURY, true).await;
    assert_eq!((found, swept.young, swept.orphans), (Vec::new(), 7, 0), "all are too young");
    let mut orphans = vec![late, forgotten];
    orphans.sort();
    let all = world.keys().await;
    let (found, swept) = world.sweep(OLD, false).await;
    assert_eq!((&found, world.keys().await), (&orphans, all), "a dry run deletes nothing");
    assert_eq!((swept.listed, swept.open, swept.foreign, swept.orphan_bytes), (8, 3, 1, 18), "{swept:?}");
    let (found, _) = world.sweep(OLD, true).await;
    assert_eq!(found, orphans);
    let left = world.keys().await;
    assert!(orphans.iter().all(|key| !left.contains(key)));
    for key in [&live, &open, &later, &unheard_of, &foreign] {
        assert!(left.contains(key), "{key}");
    }
    assert!(world.ground.store.head(&other).await.is_ok(), "another cluster's objects are its own");
    assert_eq!(world.sweep(OLD, true).await.0, []);
    world.controller.close().await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_grace_time_is_no_orphan() {
    let world = World::new().await;
    let key = world.upload(1).await;
    submit(&world.handle(), Command::DeleteTopic { id: TopicId(Uuid::from_u128(1)), at: world.ground.clock.now() })
        .await;
    wait_for(&world.handle(), "the topic is removed", |image| image.deleted.is_empty()).await;
    assert_eq!(world.sweep(OLD, true).await.0, []);
    assert!(world.ground.store.head(&key).await.is_ok());
    world.controller.close().await;
}

/// Shows rows as they were, and lets something happen between the listing and the look at them.
struct Between<'a> {
    world: &'a World,
    happens: std::sync::Mutex<Option<Command>>,
}

impl Views for Between<'_> {
    type Rows = slatedb::Db;

    async fn newest(&self) -> Result<slatedb::Db, QueryError> {
        let command = self.happens.lock().unwrap().take();
        if let Some(command) = command {
            submit(&self.world.handle(), command).await;
        }
        self.world.controller.local.newest().await
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_committed_during_the_search_stays() {
    let world = World::new().await;
    let (key, command) = world.object(1);
    world.put(&key).await;
    let views = Between { world: &world, happens: std::sync::Mutex::new(Some(command)) };
    let sweep = Sweep {
        store: world.ground.store.as_ref(),
        cluster: "c1",
        before: before(world.ground.clock.now(), OLD),
        delete: true,
    };
    let swept = sweep.run(&views, |orphan| panic!("{orphan:?}")).await.unwrap();
    assert_eq!(swept.listed, 2);
    assert!(world.ground.store.head(&key).await.is_ok());
    world.controller.close().await;
}

#[tokio::test(start_paused = true)]
async fn the_controller_searches_by_itself() {
    let mut world = World::new().await;
    let orphan = world.plant(world.journal.0, 0).await;
    world.controller.close().await;
    (world.ground.options.sweep_interval, world.ground.options.orphan_age) = (Duration::from_secs(24 * 3600), OLD);
    let controller = world.ground.open().await;
    world.ground.store.take_counts();
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    assert!(world.ground.store.head(&orphan).await.is_err());
    assert_eq!(world.ground.options.metrics.now().2, 1);
    // A store that does not delete is no reason to stop.
    world.ground.store.let_deletes_pass(false);
    let again = data_key("c1", world.journal, Position(0), Uuid::from_u128(99));
    world.ground.store.put(&again, PutPayload::from_static(b"an object")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(48 * 3600)).await;
    world.ground.store.let_deletes_pass(true);
    tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
    assert!(world.ground.store.head(&again).await.is_err());
    drop(controller);
}
