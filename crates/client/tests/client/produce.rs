//! The producer, also when things go wrong.

use std::sync::Arc;
use std::time::Duration;

use client::{Acks, Client, Codec, Delivery, Error, NewRecord, Producer, ProducerConfig};
use tokio::sync::Notify;
use tokio::time::timeout;
use wire::{ApiKey, ErrorCode};

use crate::broker::{Cluster, Fault, Listen, until};
use crate::client;

/// Small batches, so that many are under way.
fn small_batches() -> ProducerConfig {
    ProducerConfig { batch_bytes: 200, linger: Duration::from_millis(1), ..ProducerConfig::default() }
}

async fn send_all(producer: &Producer, topic: &str, count: usize) -> Vec<Delivery> {
    let topic: Arc<str> = topic.into();
    let mut deliveries = Vec::new();
    for number in 0..count {
        let record = NewRecord::to(topic.clone()).partition(0).value(number.to_string());
        deliveries.push(producer.send(record).await.unwrap());
    }
    deliveries
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

/// Sends numbers while the given faults happen; all must be there once, in order, where the deliveries say.
async fn exactly_once(cluster: &Cluster, count: usize) {
    let producer = client(cluster).producer(small_batches()).unwrap();
    let deliveries = send_all(&producer, "t", count).await;
    for (delivery, at) in deliveries.into_iter().zip(0_i64..) {
        let written = timeout(Duration::from_secs(30), delivery).await.expect("it is delivered").unwrap();
        assert!(written.offset.is_none_or(|offset| offset.0 == at), "{at}: {written:?}");
    }
    assert_eq!(cluster.values("t", 0), numbers(count));
    assert_eq!(cluster.faults_left(), 0, "every fault happened");
    producer.close().await.unwrap();
}

#[tokio::test]
async fn records_are_written_in_order() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 1, 1);
    exactly_once(&cluster, 1000).await;
    assert!(cluster.requests(ApiKey::Produce) > 5);
}

#[tokio::test]
async fn lost_answers_write_nothing_twice() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 1, 1);
    for _ in 0..5 {
        cluster.fault(ApiKey::Produce, Fault::LoseAnswer);
    }
    exactly_once(&cluster, 500).await;
}

#[tokio::test]
async fn lost_and_refused_requests_keep_the_order() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 1, 1);
    for fault in [
        Fault::Lose,
        Fault::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS),
        Fault::LoseAnswer,
        Fault::Refuse(ErrorCode::NOT_LEADER_OR_FOLLOWER),
        Fault::Refuse(ErrorCode::REQUEST_TIMED_OUT),
        Fault::LoseAnswer,
        Fault::Lose,
        Fault::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND),
    ] {
        cluster.fault(ApiKey::Produce, fault);
    }
    cluster.fault(ApiKey::InitProducerId, Fault::Refuse(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS));
    cluster.fault(ApiKey::Metadata, Fault::Lose);
    exactly_once(&cluster, 2000).await;
}

#[tokio::test]
async fn a_producer_follows_the_leader() {
    let mut cluster = Cluster::start().await;
    cluster.add(2, Listen::Plain).await;
    cluster.topic("t", 1, 1);
    let producer = client(&cluster).producer(small_batches()).unwrap();
    let mut deliveries = send_all(&producer, "t", 100).await;
    producer.flush().await;
    cluster.move_leader("t", 0, 2);
    deliveries.extend(send_all(&producer, "t", 100).await);
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    assert_eq!(cluster.values("t", 0), [numbers(100), numbers(100)].concat());
}

#[tokio::test]
async fn a_batch_that_is_refused_fails_alone() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 1, 1);
    let hold = Arc::new(Notify::new());
    cluster.fault(ApiKey::Produce, Fault::Hold(hold.clone()));
    cluster.fault(ApiKey::Produce, Fault::Refuse(ErrorCode::INVALID_RECORD));
    let producer = client(&cluster).producer(small_batches()).unwrap();
    let deliveries = send_all(&producer, "t", 300).await;
    until("the first request came", || cluster.requests(ApiKey::Produce) == 1).await;
    hold.notify_one();
    let mut written = vec![];
    let mut refused = 0;
    for (delivery, number) in deliveries.into_iter().zip(0..) {
        match delivery.await {
            Ok(_) => written.push(number.to_string()),
            Err(error) => {
                assert_eq!(error.code(), Some(ErrorCode::INVALID_RECORD), "{error}");
                refused += 1;
            }
        }
    }
    assert!((1..150).contains(&refused), "{refused} were refused");
    assert_eq!(cluster.values("t", 0), written, "the others are there once, in order");
}

#[tokio::test]
async fn what_may_have_been_written_is_not_written_again_under_another_name() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 1, 1);
    cluster.fault(ApiKey::Produce, Fault::LoseAnswer);
    // The broker forgot the producer meanwhile: it cannot tell whether it has the batch.
    cluster.fault(ApiKey::Produce, Fault::Refuse(ErrorCode::UNKNOWN_PRODUCER_ID));
    let producer = client(&cluster).producer(ProducerConfig::default()).unwrap();
    let delivery = send_all(&producer, "t", 1).await.remove(0);
    let error = delivery.await.unwrap_err();
    assert!(matches!(error, Error::Unknown(_)), "{error}");
    // The next one gets through.
    send_all(&producer, "t", 1).await.remove(0).await.unwrap();
    assert_eq!(cluster.values("t", 0), ["0", "0"]);
}

#[tokio::test]
async fn a_producer_that_the_broker_forgot_starts_anew() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 1, 1);
    let producer = client(&cluster).producer(small_batches()).unwrap();
    for delivery in send_all(&producer, "t", 10).await {
        delivery.await.unwrap();
    }
    cluster.fault(ApiKey::Produce, Fault::Refuse(ErrorCode::UNKNOWN_PRODUCER_ID));
    for delivery in send_all(&producer, "t", 100).await {
        delivery.await.unwrap();
    }
    assert_eq!(cluster.values("t", 0), [numbers(10), numbers(100)].concat());
    assert!(cluster.requests(ApiKey::InitProducerId) > 1);
}

#[tokio::test]
async fn full_memory_makes_senders_wait() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 1, 1);
    let hold = Arc::new(Notify::new());
    cluster.fault(ApiKey::Produce, Fault::Hold(hold.clone()));
    let config = ProducerConfig { memory_bytes: 4000, ..small_batches() };
    let producer = client(&cluster).producer(config).unwrap();
    let big = || NewRecord::to("t").partition(0).value(vec![b'x'; 1500]);
    let first = producer.send(big()).await.unwrap();
    let second = producer.send(big()).await.unwrap();
    let third = producer.send(big());
    tokio::pin!(third);
    assert!(timeout(Duration::from_millis(50), &mut third).await.is_err(), "there is no memory for a third");
    hold.notify_one();
    let third = third.await.unwrap();
    for delivery in [first, second, third] {
        delivery.await.unwrap();
    }
    let error = producer.send(NewRecord::to("t").value(vec![0; 5000])).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn time_runs_out_for_a_cluster_that_is_away() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 1, 1);
    let config = ProducerConfig {
        delivery_timeout: Duration::from_millis(300),
        block_timeout: Duration::from_millis(200),
        ..small_batches()
    };
    let producer = client(&cluster).producer(config).unwrap();
    send_all(&producer, "t", 1).await.remove(0).await.unwrap();
    drop(cluster);
    let delivery = send_all(&producer, "t", 1).await.remove(0);
    let error = delivery.await.unwrap_err();
    let late = |error: &Error| matches!(error, Error::TimedOut { .. });
    assert!(late(&error) || matches!(&error, Error::Unknown(inner) if late(inner)), "{error}");
    let error = producer.send(NewRecord::to("another")).await.unwrap_err();
    assert!(error.is_retriable(), "{error}");
}

#[tokio::test]
async fn a_topic_that_is_not_there_is_an_error() {
    let cluster = Cluster::start().await;
    let config = ProducerConfig { block_timeout: Duration::from_millis(50), ..ProducerConfig::default() };
    let producer = client(&cluster).producer(config).unwrap();
    let error = producer.send(NewRecord::to("missing")).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "{error}");
    cluster.topic("t", 1, 1);
    let error = producer.send(NewRecord::to("t").partition(1)).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "{error}");
}

#[tokio::test]
async fn topics_are_made_on_first_use_where_the_cluster_does_that() {
    let cluster = Cluster::start().await;
    cluster.shared.state.lock().auto_create = Some(2);
    let producer = client(&cluster).producer(ProducerConfig::default()).unwrap();
    let delivery = producer.send(NewRecord::to("made").partition(1).value("x")).await.unwrap();
    assert_eq!(delivery.await.unwrap().partition, 1);
    assert_eq!(cluster.values("made", 1), ["x"]);
}

#[tokio::test]
async fn without_acks_a_closed_producer_has_reached_the_broker() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 1, 1);
    let config = ProducerConfig { acks: Acks::None, idempotent: false, ..small_batches() };
    let producer = client(&cluster).producer(config).unwrap();
    let deliveries = send_all(&producer, "t", 500).await;
    producer.close().await.unwrap();
    assert_eq!(cluster.values("t", 0), numbers(500));
    for delivery in deliveries {
        assert_eq!(delivery.await.unwrap().offset, None);
    }
}

#[tokio::test]
async fn records_without_a_key_use_all_partitions_and_keys_use_one() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 4, 1);
    let producer = client(&cluster).producer(small_batches()).unwrap();
    let mut deliveries = vec![];
    for _ in 0..200 {
        deliveries.push(producer.send(NewRecord::to("t").value("no key")).await.unwrap());
    }
    producer.flush().await;
    assert!((0..4).all(|partition| !cluster.values("t", partition).is_empty()));
    for _ in 0..10 {
        // Java's client puts this key there.
        let delivery = producer.send(NewRecord::to("t").key("foobar").value("key")).await.unwrap();
        assert_eq!(delivery.await.unwrap().partition, (-790_332_482 & 0x7fff_ffff) % 4);
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
}

#[tokio::test]
async fn lingering_gathers_and_flushing_does_not_wait_for_it() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 1, 1);
    let config = ProducerConfig { linger: Duration::from_secs(60), ..ProducerConfig::default() };
    let producer = client(&cluster).producer(config).unwrap();
    let deliveries = send_all(&producer, "t", 100).await;
    timeout(Duration::from_secs(10), producer.flush()).await.expect("a flush does not linger");
    for delivery in deliveries {
        timeout(Duration::from_millis(1), delivery).await.expect("it is known").unwrap();
    }
    assert_eq!(cluster.requests(ApiKey::Produce), 1);
}

#[tokio::test]
async fn dropping_a_producer_tells_those_who_wait() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 1, 1);
    let config = ProducerConfig { linger: Duration::from_secs(60), ..ProducerConfig::default() };
    let producer = client(&cluster).producer(config).unwrap();
    let delivery = send_all(&producer, "t", 1).await.remove(0);
    drop(producer);
    assert!(matches!(delivery.await, Err(Error::Closed(_))));
}

#[tokio::test]
async fn a_closed_producer_takes_no_more() {
    let cluster = Cluster::start().await;
    cluster.topic("t", 1, 1);
    let producer = client(&cluster).producer(ProducerConfig::default()).unwrap();
    let delivery = send_all(&producer, "t", 1).await.remove(0);
    producer.close().await.unwrap();
    delivery.await.unwrap();
    assert!(matches!(producer.send(NewRecord::to("t")).await, Err(Error::Closed(_))));
}

#[tokio::test]
async fn settings_that_contradict_each_other_are_refused() {
    let nowhere = Client::new(crate::config("kafka://127.0.0.1:1")).unwrap();
    let refused = |config| matches!(nowhere.producer(config), Err(Error::Config(_)));
    assert!(refused(ProducerConfig { acks: Acks::Leader, ..ProducerConfig::default() }));
    assert!(refused(ProducerConfig { in_flight_max: 6, ..ProducerConfig::default() }));
    assert!(refused(ProducerConfig { memory_bytes: 0, ..ProducerConfig::default() }));
    assert!(!refused(ProducerConfig { compression: Codec::Zstd, ..ProducerConfig::default() }));
}
