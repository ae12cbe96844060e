//! Consumers that share partitions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::{Assignor, Client, Consumer, ConsumerConfig, NewRecord, ProducerConfig, StartAt};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wire::{ApiKey, ErrorCode};

use crate::broker::{Cluster, Fault, until};
use crate::client;

const PARTITIONS: usize = 6;

fn member(assignor: Assignor) -> ConsumerConfig {
    ConsumerConfig {
        start_at: StartAt::Earliest,
        assignors: vec![assignor],
        heartbeat_interval: Duration::from_millis(20),
        fetch_wait: Duration::from_millis(20),
        ..ConsumerConfig::group("g")
    }
}

/// What the members of a group have read: how often each record, and which partitions each member has now.
#[derive(Default)]
struct Seen {
    records: BTreeMap<String, usize>,
    assignments: BTreeMap<usize, usize>,
}

/// A member that polls in a task of its own until it is told to leave.
struct Running {
    tasks: JoinSet<()>,
    leave: CancellationToken,
}

fn run(number: usize, mut consumer: Consumer, seen: &Arc<Mutex<Seen>>) -> Running {
    let (leave, seen) = (CancellationToken::new(), seen.clone());
    let mut tasks = JoinSet::new();
    let leaving = leave.clone();
    tasks.spawn(async move {
        consumer.subscribe(["t"]).await.unwrap();
        while !leaving.is_cancelled() {
            let records = consumer.poll(Duration::from_millis(50)).await.unwrap();
            let mut seen = seen.lock();
            for record in records {
                let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                *seen.records.entry(value).or_default() += 1;
            }
            seen.assignments.insert(number, consumer.assignment().len());
        }
        consumer.close().await.unwrap();
        seen.lock().assignments.remove(&number);
    });
    Running { tasks, leave }
}

impl Running {
    async fn stop(mut self) {
        self.leave.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

async fn produce(client: &Client, from: usize, to: usize) {
    let producer = client.producer(ProducerConfig::default()).unwrap();
    for number in from..to {
        let partition = i32::try_from(number % PARTITIONS).unwrap();
        let record = NewRecord::to("t").partition(partition).value(number.to_string());
        drop(producer.send(record).await.unwrap());
    }
    producer.close().await.unwrap();
}

async fn members_come_and_go(assignor: Assignor) {
    let cluster = Cluster::start().await;
    cluster.topic("t", PARTITIONS, 1);
    let client = client(&cluster);
    let seen = Arc::new(Mutex::new(Seen::default()));
    let has = |shares: &[usize]| {
        let mut found: Vec<usize> = seen.lock().assignments.values().copied().collect();
        found.sort_unstable();
        found == shares
    };
    let start = |number| run(number, client.consumer(member(assignor)).unwrap(), &seen);

    let first = start(1);
    until("one member reads all", || has(&[6])).await;
    produce(&client, 0, 300).await;
    let second = start(2);
    until("two members share", || has(&[3, 3])).await;
    produce(&client, 300, 600).await;
    let third = start(3);
    until("three members share", || has(&[2, 2, 2])).await;
    produce(&client, 600, 900).await;
    until("all records came", || seen.lock().records.len() == 900).await;
    first.stop().await;
    until("two members share again", || has(&[3, 3])).await;
    produce(&client, 900, 1200).await;
    until("all records came", || seen.lock().records.len() == 1200).await;
    second.stop().await;
    third.stop().await;
    assert_eq!(cluster.members("g"), 0, "they left");
    let twice: Vec<_> = seen.lock().records.iter().filter(|(_, count)| **count > 1).map(|(v, _)| v.clone()).collect();
    assert!(twice.is_empty(), "read twice: {twice:?}");
    let committed: i64 = (0..6).map(|partition| cluster.committed("g", "t", partition).unwrap()).sum();
    assert_eq!(committed, 1200);
}

#[tokio::test]
async fn members_share_and_take_over_with_range() {
    members_come_and_go(Assignor::Range).await;
}

#[tokio::test]
async fn members_share_and_take_over_with_round_robin() {
    members_come_and_go(Assignor::RoundRobin).await;
}

#[tokio::test]
async fn members_share_and_take_over_cooperatively() {
    members_come_and_go(Assignor::CooperativeSticky).await;
}

#[tokio::test]
async fn a_member_that_was_expelled_comes_back() {
    let cluster = Cluster::start().await;
    cluster.topic("t", PARTITIONS, 1);
    let client = client(&cluster);
    let seen = Arc::new(Mutex::new(Seen::default()));
    let running = run(1, client.consumer(member(Assignor::Range)).unwrap(), &seen);
    until("it reads", || seen.lock().assignments.get(&1) == Some(&6)).await;
    for fault in [
        Fault::Refuse(ErrorCode::NOT_COORDINATOR),
        Fault::Lose,
        Fault::Refuse(ErrorCode::ILLEGAL_GENERATION),
        Fault::LoseAnswer,
    ] {
        cluster.fault(ApiKey::Heartbeat, fault);
        until("the heartbeat failed", || cluster.faults_left() == 0).await;
    }
    let joins = cluster.requests(ApiKey::JoinGroup);
    cluster.expel_members("g");
    until("it joined again", || cluster.requests(ApiKey::JoinGroup) > joins && cluster.members("g") == 1).await;
    produce(&client, 0, 60).await;
    until("it reads on", || seen.lock().records.len() == 60).await;
    running.stop().await;
}

#[tokio::test]
async fn a_member_that_does_not_poll_leaves_and_comes_back_when_it_does() {
    let cluster = Cluster::start().await;
    cluster.topic("t", PARTITIONS, 1);
    let client = client(&cluster);
    let config = ConsumerConfig { max_poll_interval: Duration::from_millis(300), ..member(Assignor::Range) };
    let mut consumer = client.consumer(config).unwrap();
    consumer.subscribe(["t"]).await.unwrap();
    while consumer.assignment().len() < 6 {
        consumer.poll(Duration::from_millis(20)).await.unwrap();
    }
    until("it left", || cluster.members("g") == 0).await;
    produce(&client, 0, 6).await;
    let mut records = 0;
    while records < 6 {
        records += consumer.poll(Duration::from_millis(100)).await.unwrap().len();
    }
    assert_eq!(cluster.members("g"), 1);
    consumer.close().await.unwrap();
}

#[tokio::test]
async fn a_subscription_without_a_group_is_refused() {
    let cluster = Cluster::start().await;
    let mut consumer = client(&cluster).consumer(ConsumerConfig::default()).unwrap();
    assert!(consumer.subscribe(["t"]).await.is_err());
}
