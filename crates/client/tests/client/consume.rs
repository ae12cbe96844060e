//! The consumer, alone.

use std::time::Duration;

use bytes::Bytes;
use client::{Client, Consumer, ConsumerConfig, Error, Offset, OffsetSpec, Record, StartAt, Timestamp, TopicPartition};
use records::{Batch, Builder, Codec, ControlType, Headers, LeaderEpoch, ProducerEpoch, ProducerId};
use tokio::time::{Instant, timeout};
use wire::{ApiKey, ErrorCode};

use crate::broker::{Cluster, Fault, Listen};
use crate::client;

fn batch(codec: Codec, values: impl IntoIterator<Item = i64>) -> Batch {
    let mut builder = Builder::new(codec);
    for value in values {
        builder.push(Timestamp(1000 + value), None, Some(value.to_string().as_bytes()), &Headers::NONE).unwrap();
    }
    builder.build()
}

fn append(cluster: &Cluster, batch: Batch) {
    cluster.shared.state.lock().topics.get_mut("t").unwrap()[0].append(batch).unwrap();
}

/// One partition with the numbers 0 to `count`, ten to a batch, each at its own offset and a second after 1000 + it.
async fn filled(count: i64) -> Cluster {
    let cluster = Cluster::start().await;
    cluster.topic("t", 1, 1);
    for start in (0..count).step_by(10) {
        append(&cluster, batch(Codec::ALL[usize::try_from(start / 10).unwrap() % 5], start..start + 10));
    }
    cluster
}

fn partition() -> TopicPartition {
    TopicPartition::new("t", 0)
}

async fn reader(client: &Client, config: ConsumerConfig) -> Consumer {
    let mut consumer = client.consumer(config).unwrap();
    consumer.assign([partition()]).await.unwrap();
    consumer
}

fn earliest() -> ConsumerConfig {
    ConsumerConfig { start_at: StartAt::Earliest, fetch_wait: Duration::from_millis(20), ..ConsumerConfig::default() }
}

fn numbers(records: &[Record]) -> Vec<i64> {
    records.iter().map(|record| std::str::from_utf8(record.value.as_ref().unwrap()).unwrap().parse().unwrap()).collect()
}

/// Polls until there are so many.
async fn read(consumer: &mut Consumer, count: usize) -> Vec<Record> {
    let mut all = vec![];
    let deadline = Instant::now() + Duration::from_secs(30);
    while all.len() < count {
        assert!(Instant::now() < deadline, "only {} of {count} came", all.len());
        all.extend(consumer.poll(Duration::from_secs(1)).await.unwrap());
    }
    all
}

#[tokio::test]
async fn everything_is_read_once_and_in_order() {
    let cluster = filled(1000).await;
    let mut consumer = reader(&client(&cluster), ConsumerConfig { poll_records: 7, ..earliest() }).await;
    let mut expected = 0;
    while expected < 1000 {
        let records = consumer.poll(Duration::from_secs(10)).await.unwrap();
        assert!((1..=7).contains(&records.len()));
        for record in records {
            assert_eq!(record.offset, Offset(expected));
            assert_eq!(record.timestamp, Timestamp(1000 + expected));
            assert_eq!(record.value, Some(Bytes::from(expected.to_string())));
            expected += 1;
        }
        assert_eq!(consumer.position(&partition()), Some(Offset(expected)));
    }
    assert_eq!(consumer.known_end(&partition()), Some(Offset(1000)));
    assert!(consumer.poll(Duration::from_millis(50)).await.unwrap().is_empty());
    append(&cluster, batch(Codec::None, [1000]));
    assert_eq!(numbers(&read(&mut consumer, 1).await), [1000]);
}

#[tokio::test]
async fn seeking_goes_to_the_place_and_nowhere_else() {
    let cluster = filled(100).await;
    let mut consumer = reader(&client(&cluster), earliest()).await;
    read(&mut consumer, 100).await;
    for (spec, first) in [
        (OffsetSpec::At(Offset(55)), 55),
        (OffsetSpec::Start, 0),
        (OffsetSpec::Time(Timestamp(1042)), 42),
        (OffsetSpec::At(Offset(99)), 99),
    ] {
        consumer.seek(&partition(), spec).await.unwrap();
        assert_eq!(consumer.position(&partition()), Some(Offset(first)));
        assert_eq!(read(&mut consumer, 1).await[0].offset, Offset(first), "{spec:?}");
    }
    for spec in [OffsetSpec::End, OffsetSpec::Time(Timestamp(5000))] {
        consumer.seek(&partition(), spec).await.unwrap();
        assert_eq!(consumer.position(&partition()), Some(Offset(100)));
    }
    let elsewhere = TopicPartition::new("t", 1);
    assert!(matches!(consumer.seek(&elsewhere, OffsetSpec::Start).await, Err(Error::Config(_))));
}

#[tokio::test]
async fn a_consumer_starts_where_it_was_told() {
    let cluster = filled(50).await;
    let client = client(&cluster);
    let mut latest = reader(&client, ConsumerConfig { start_at: StartAt::Latest, ..earliest() }).await;
    assert!(latest.poll(Duration::from_millis(50)).await.unwrap().is_empty());
    append(&cluster, batch(Codec::None, [50]));
    assert_eq!(numbers(&read(&mut latest, 1).await), [50]);
    let mut fail = reader(&client, ConsumerConfig { start_at: StartAt::Fail, ..earliest() }).await;
    assert!(matches!(fail.poll(Duration::from_secs(1)).await, Err(Error::NoOffset { .. })));
}

#[tokio::test]
async fn an_offset_that_is_gone_is_answered_by_the_reset_policy() {
    let cluster = filled(100).await;
    let client = client(&cluster);
    {
        let mut state = cluster.shared.state.lock();
        let log = &mut state.topics.get_mut("t").unwrap()[0];
        log.batches.drain(..5);
        log.start = 50;
    }
    let mut consumer = reader(&client, earliest()).await;
    consumer.seek(&partition(), OffsetSpec::At(Offset(3))).await.unwrap();
    assert_eq!(read(&mut consumer, 1).await[0].offset, Offset(50));
    let mut strict = reader(&client, ConsumerConfig { start_at: StartAt::Fail, ..earliest() }).await;
    strict.seek(&partition(), OffsetSpec::At(Offset(3))).await.unwrap();
    assert!(matches!(strict.poll(Duration::from_secs(10)).await, Err(Error::NoOffset { .. })));
}

#[tokio::test]
async fn lost_connections_and_moved_leaders_lose_no_record() {
    let mut cluster = filled(300).await;
    cluster.add(2, Listen::Plain).await;
    let config = ConsumerConfig { partition_bytes: 300, buffer_bytes: 600, ..earliest() };
    let mut consumer = reader(&client(&cluster), config).await;
    let mut all = vec![];
    for step in 0..6 {
        match step {
            1 => cluster.fault(ApiKey::Fetch, Fault::Lose),
            2 => cluster.fault(ApiKey::Fetch, Fault::LoseAnswer),
            3 => cluster.move_leader("t", 0, 2),
            4 => cluster.fault(ApiKey::Fetch, Fault::Refuse(ErrorCode::UNKNOWN_LEADER_EPOCH)),
            _ => cluster.fault(ApiKey::Metadata, Fault::Lose),
        }
        all.extend(read(&mut consumer, 35).await);
    }
    while all.len() < 300 {
        all.extend(read(&mut consumer, 1).await);
    }
    assert_eq!(numbers(&all), (0..300).collect::<Vec<_>>());
}

#[tokio::test]
async fn polls_that_are_cancelled_lose_no_record() {
    let cluster = filled(500).await;
    let mut consumer = reader(&client(&cluster), ConsumerConfig { poll_records: 20, ..earliest() }).await;
    let mut all = vec![];
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut wait = 1;
    while all.len() < 500 {
        assert!(Instant::now() < deadline);
        // Longer waits in turn, or it would never get beyond connecting.
        wait = wait % 50 + 1;
        if let Ok(records) = timeout(Duration::from_micros(wait * 200), consumer.poll(Duration::from_secs(1))).await {
            all.extend(records.unwrap());
        }
    }
    assert_eq!(numbers(&all), (0..500).collect::<Vec<_>>());
}

#[tokio::test]
async fn damaged_batches_are_told_and_never_stepped_over() {
    let cluster = filled(30).await;
    let good = {
        let mut state = cluster.shared.state.lock();
        let log = &mut state.topics.get_mut("t").unwrap()[0];
        let good = log.batches[1].clone();
        let mut bytes = good.to_bytes().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        log.batches[1] = Batch::decode(bytes.into()).unwrap();
        good
    };
    let mut consumer = reader(&client(&cluster), earliest()).await;
    assert_eq!(numbers(&read(&mut consumer, 10).await), (0..10).collect::<Vec<_>>());
    for _ in 0..2 {
        let error = consumer.poll(Duration::from_secs(10)).await.unwrap_err();
        assert!(matches!(error, Error::Records { offset: 10, .. }), "{error}");
    }
    cluster.shared.state.lock().topics.get_mut("t").unwrap()[0].batches[1] = good;
    // What was read ahead may still be the damaged one.
    let deadline = Instant::now() + Duration::from_secs(10);
    let rest = loop {
        match consumer.poll(Duration::from_secs(1)).await {
            Ok(records) => break records,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    };
    assert_eq!(rest[0].offset, Offset(10));
}

#[tokio::test]
async fn paused_partitions_rest_and_go_on_where_they_were() {
    let cluster = filled(100).await;
    let mut consumer = reader(&client(&cluster), ConsumerConfig { poll_records: 10, ..earliest() }).await;
    assert_eq!(read(&mut consumer, 10).await.len(), 10);
    consumer.pause(&partition()).unwrap();
    assert!(consumer.poll(Duration::from_millis(50)).await.unwrap().is_empty());
    consumer.resume(&partition()).unwrap();
    assert_eq!(numbers(&read(&mut consumer, 90).await), (10..100).collect::<Vec<_>>());
}

fn transactional(producer: i64, values: std::ops::Range<i64>) -> Batch {
    let mut builder = Builder::new(Codec::None).producer(ProducerId(producer), ProducerEpoch(0), 0).transactional();
    for value in values {
        builder.push(Timestamp(value), None, Some(value.to_string().as_bytes()), &Headers::NONE).unwrap();
    }
    builder.build()
}

#[tokio::test]
async fn control_batches_holes_and_aborted_transactions_are_not_handed_out() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 1, 1);
    let control = |kind, producer| Builder::control(kind, ProducerId(producer), ProducerEpoch(0), 0, Timestamp(0));
    let batches = [
        (0, transactional(1, 0..3)),
        (3, transactional(2, 3..5)),
        (5, control(ControlType::Abort, 1)),
        (6, control(ControlType::Commit, 2)),
        // What compaction left of more.
        (20, batch(Codec::None, [20])),
        (21, transactional(1, 21..22)),
        (22, control(ControlType::Commit, 1)),
    ];
    {
        let mut state = cluster.shared.state.lock();
        let log = &mut state.topics.get_mut("t").unwrap()[0];
        for (offset, mut batch) in batches {
            batch.assign(Offset(offset), LeaderEpoch(0));
            log.batches.push(batch);
        }
        log.aborted.push((1, 0));
    }
    let client = client(&cluster);
    let mut everything = reader(&client, earliest()).await;
    assert_eq!(numbers(&read(&mut everything, 7).await), [0, 1, 2, 3, 4, 20, 21]);
    let mut committed = reader(&client, ConsumerConfig { committed_only: true, ..earliest() }).await;
    assert_eq!(numbers(&read(&mut committed, 4).await), [3, 4, 20, 21]);
    for consumer in [&mut everything, &mut committed] {
        assert!(consumer.poll(Duration::from_millis(50)).await.unwrap().is_empty());
        assert_eq!(consumer.position(&partition()), Some(Offset(23)), "the last marker is behind");
    }
}

#[tokio::test]
async fn commits_are_where_a_group_goes_on() {
    let cluster = filled(100).await;
    let client = client(&cluster);
    let config = || ConsumerConfig { group: Some("g".into()), auto_commit: None, poll_records: 10, ..earliest() };
    let mut first = reader(&client, config()).await;
    assert!(first.committed(&[partition()]).await.unwrap().is_empty());
    read(&mut first, 30).await;
    first.commit().await.unwrap();
    read(&mut first, 10).await;
    first.close().await.unwrap();
    let mut second = reader(&client, config()).await;
    assert_eq!(second.committed(&[partition()]).await.unwrap()[&partition()].offset, Offset(30));
    assert_eq!(read(&mut second, 1).await[0].offset, Offset(30));
    let automatic = ConsumerConfig { auto_commit: Some(Duration::from_millis(5)), ..config() };
    let mut third = reader(&client, automatic).await;
    read(&mut third, 10).await;
    third.close().await.unwrap();
    assert_eq!(cluster.committed("g", "t", 0), Some(40));
    let mut none = reader(&client, earliest()).await;
    assert!(matches!(none.commit().await, Err(Error::Config(_))));
}
