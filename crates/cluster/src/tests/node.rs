//! Brokers that share a store: one is the controller, the others follow it, and another one takes over when it is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metadata::election::Election;
use metadata::{Command, Configs, Endpoint, Handle, Image, Refusal, Reply, SubmitError};
use records::{BrokerId, Incarnation, Random, Timestamp, TopicId};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::net::{Real, certificates, network};
use crate::node::Role;
use crate::{Metrics, Node, Options, PEER_LISTENER, Peers, Server, ServerLimits, Timing};

const SOON: Duration = Duration::from_secs(20);
const AT: Timestamp = Timestamp(1_000);

/// Numbers that never come twice in one process.
struct Counting(u64);

impl Random for Counting {
    fn next(&self) -> u128 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        // Spread over all bits, so that the remainder by some number is anything.
        (u128::from(self.0) << 64 | u128::from(next)).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)
    }
}

/// What brokers share.
struct Ground {
    store: objects::Store,
    dir: TempDir,
}

/// One of them.
struct Broker {
    name: String,
    node: Node,
    server: Server,
    address: String,
}

impl Ground {
    fn new() -> Self {
        let store = objects::Store::new(Arc::new(object_store::memory::InMemory::new()), "memory");
        Self { store, dir: TempDir::new().unwrap() }
    }

    async fn broker(&self, name: &str) -> Broker {
        self.broker_at(name, "127.0.0.1:0").await
    }

    async fn broker_at(&self, name: &str, bind: &str) -> Broker {
        let (network, address) = network(certificates(&self.dir), bind).await;
        let random = Arc::new(Counting(u64::from(name.as_bytes()[0])));
        let options = Options {
            metadata: metadata::Options::new(self.store.clone(), "c1", Arc::new(Real), random.clone()),
            election: Election::new(self.store.clone(), "c1", random, name.into(), address.clone()),
            peers: Some(Peers::new(network.clone())),
            timing: Timing::default(),
            metrics: Metrics::default(),
        };
        let node = Node::start(options);
        let server = Server::start(network, node.routes(), ServerLimits::default());
        Broker { name: name.into(), node, server, address }
    }
}

impl Broker {
    async fn handle(&self) -> Handle {
        timeout(SOON, self.node.joined()).await.expect("it joins in time").unwrap()
    }

    async fn register(&self) -> (BrokerId, Incarnation) {
        let (host, port) = self.address.rsplit_once(':').unwrap();
        let peer = Endpoint { listener: PEER_LISTENER.into(), host: host.into(), port: port.parse().unwrap() };
        let register =
            Command::RegisterBroker { name: self.name.clone(), zone: String::new(), endpoints: vec![peer], at: AT };
        match submit(&self.handle().await, register).await {
            Reply::Registered { broker, incarnation } => (broker, incarnation),
            other => panic!("{other:?}"),
        }
    }

    fn leads(&self) -> bool {
        matches!(*self.node.shared.role.borrow(), Role::Leading(_))
    }

    /// Gone without a word.
    async fn kill(self) {
        drop(self.node);
        self.server.stop(Duration::ZERO).await;
    }
}

async fn submit(handle: &Handle, command: Command) -> Reply {
    timeout(SOON, handle.submit(command)).await.expect("it is answered in time").unwrap()
}

fn create(name: &str, id: u128) -> Command {
    let id = TopicId(Uuid::from_u128(id));
    Command::CreateTopic { name: name.into(), id, partitions: 1, configs: Configs::new(), at: AT }
}

/// Waits until the image is as wanted.
async fn until(handle: &Handle, what: &str, wanted: impl Fn(&Image) -> bool) {
    let mut images = handle.watch();
    let waited = timeout(SOON, images.wait_for(|image| wanted(image))).await;
    assert!(waited.is_ok(), "waited in vain until {what}");
}

async fn journal(broker: &Broker, (id, incarnation): (BrokerId, Incarnation)) {
    let open = Command::OpenJournal { owner: id, incarnation, members: vec![id], ack_quorum: 1, at: AT };
    submit(&broker.handle().await, open).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_leads_the_others_follow_and_what_any_of_them_submits_is_seen_by_all() {
    let ground = Ground::new();
    let brokers = [ground.broker("a").await, ground.broker("b").await, ground.broker("c").await];
    for (nth, broker) in (1..).zip(&brokers) {
        let identity = broker.register().await;
        journal(broker, identity).await;
        let (name, handle) = (format!("t{nth}"), broker.handle().await);
        assert_eq!(
            submit(&handle, create(&name, nth)).await,
            Reply::TopicCreated { id: TopicId(Uuid::from_u128(nth)) }
        );
        assert!(handle.image().topic(&name).is_some(), "who submitted it sees it at once");
        let refused = handle.submit(create(&name, 99)).await.unwrap_err();
        assert!(matches!(refused, SubmitError::Refused(Refusal::TopicExists { .. })), "{refused}");
    }
    assert_eq!(brokers.iter().filter(|broker| broker.leads()).count(), 1);
    for broker in &brokers {
        let handle = broker.handle().await;
        until(&handle, "it has all topics", |image| image.topics.len() == 3 && image.brokers.len() == 3).await;
        let of = records::TopicPartition { topic: TopicId(Uuid::from_u128(1)), partition: 0.into() };
        assert!(handle.extents(of, records::Offset(0), 10).await.unwrap().is_empty());
    }
    for broker in brokers {
        timeout(SOON, broker.node.close()).await.expect("it closes");
        broker.server.stop(Duration::ZERO).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_one_takes_over_when_the_controller_is_gone_and_nothing_answered_is_lost() {
    let ground = Ground::new();
    let mut brokers = vec![ground.broker("a").await, ground.broker("b").await, ground.broker("c").await];
    for broker in &brokers {
        let identity = broker.register().await;
        journal(broker, identity).await;
    }
    // Whoever submits does not notice but for the time it takes.
    let mut made = 0;
    for round in 0..2 {
        let at = brokers.iter().position(Broker::leads).expect("one leads");
        let controller = brokers.remove(at);
        let (name, address) = (controller.name.clone(), controller.address.replace("localhost", "127.0.0.1"));
        let handle = brokers[0].handle().await;
        controller.kill().await;
        let begun = Instant::now();
        for _ in 0..5 {
            made += 1;
            submit(&handle, create(&format!("t{made}"), made)).await;
        }
        let took = begun.elapsed();
        println!("round {round}: five commands in {took:?} after {name} was killed");
        assert!(took < Duration::from_secs(10), "{took:?}");
        until(&handle, "the dead one is fenced", |image| image.broker(&name).is_some_and(|broker| broker.fenced)).await;
        let again = ground.broker_at(&name, &address).await;
        again.register().await;
        until(&handle, "it is back", |image| image.broker(&name).is_some_and(|broker| !broker.fenced)).await;
        assert_eq!(again.handle().await.image().topics.len(), usize::try_from(made).unwrap());
        brokers.push(again);
    }
    assert_eq!(brokers.iter().filter(|broker| broker.leads()).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_is_fenced_without_knowing_follows_the_new_one() {
    let ground = Ground::new();
    let a = ground.broker("a").await;
    a.register().await;
    // Somebody takes the seat and the database, as one would who does not reach this broker at all.
    let b = ground.broker("b").await;
    b.register().await;
    assert!(a.leads());
    let random = Arc::new(Counting(77));
    let thief = Election::new(ground.store.clone(), "c1", random.clone(), "b".into(), b.address.clone());
    let found = thief.look().await.unwrap();
    thief.claim(&found).await.unwrap();
    let other = metadata::Controller::open(metadata::Options::new(ground.store.clone(), "c1", Arc::new(Real), random));
    let other = other.await.unwrap();
    // A command finds out; once the seat is free again it is carried out.
    let handle = a.handle().await;
    let submitted = tokio::spawn(async move { handle.submit(Command::AllocateProducerIds { count: 7 }).await });
    sleep(Duration::from_millis(300)).await;
    other.close().await;
    let reply = timeout(SOON, submitted).await.expect("it is answered").unwrap().unwrap();
    assert!(matches!(reply, Reply::ProducerIds { count: 7, .. }));
    assert_eq!([&a, &b].into_iter().filter(|broker| broker.leads()).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processes_with_one_name_the_newer_one_stays() {
    let ground = Ground::new();
    let old = ground.broker("a").await;
    old.register().await;
    let new = ground.broker("a").await;
    new.register().await;
    let handle = old.handle().await;
    // It has something to write, as brokers have every few seconds.
    let _ = timeout(SOON, handle.submit(Command::AllocateProducerIds { count: 1 })).await;
    let reason = timeout(SOON, handle.stopped()).await.expect("the older one ends");
    assert_eq!(reason, metadata::StopReason::Fenced);
    assert!(matches!(handle.submit(Command::AllocateProducerIds { count: 1 }).await, Err(SubmitError::Fenced)));
    assert!(new.leads());
}
