//! What every cluster must do. Run against the small one here, against the one that `WEIR_CLIENT_TARGET` names, and by the
//! end-to-end tests against a broker.

use std::collections::HashMap;
use std::time::Duration;

use client::{
    Client, Codec, Consumer, ConsumerConfig, NewRecord, NewTopic, Offset, OffsetSpec, ProducerConfig, StartAt,
    Timestamp, TopicPartition,
};

use super::start;

struct Target {
    client: Client,
    /// Ends with the test.
    _cluster: Box<dyn std::any::Any + Send>,
    real: bool,
    topic: String,
}

async fn target(name: &str, partitions: i32) -> Target {
    let (config, real, cluster) = start().await;
    // A real cluster may outlive the test.
    let topic = format!("{name}-{}", config.clock.now());
    let client = Client::new(config).unwrap();
    let created = client.admin().create_topic(&NewTopic::named(&topic).partitions(partitions)).await.unwrap();
    assert_eq!(created.partitions, partitions);
    Target { client, _cluster: cluster, real, topic }
}

async fn read(consumer: &mut Consumer, count: usize) -> Vec<client::Record> {
    let mut all = vec![];
    for _ in 0..30 {
        all.extend(consumer.poll(Duration::from_secs(1)).await.unwrap());
        if all.len() >= count {
            return all;
        }
    }
    panic!("only {} of {count} records came", all.len());
}

#[tokio::test]
async fn records_come_back_as_they_were_sent_with_every_codec() {
    let target = target("codecs", 1).await;
    let mut expected = vec![];
    for codec in Codec::ALL {
        let config = ProducerConfig { compression: codec, ..ProducerConfig::default() };
        let producer = target.client.producer(config).unwrap();
        let mut records = vec![
            NewRecord::to(&*target.topic).key("key").value(format!("value of {codec}")),
            NewRecord::to(&*target.topic).value("no key"),
            NewRecord::to(&*target.topic).key("no value"),
            NewRecord::to(&*target.topic).key("").value("").header("name", "one").header("name", "two"),
            NewRecord::to(&*target.topic).value(vec![b'z'; 300_000]).timestamp(Timestamp(1_700_000_000_123)),
        ];
        records[3].headers.push(("nothing".into(), None));
        for record in records {
            let delivery = producer.send(record.clone()).await.unwrap();
            expected.push((record, delivery));
        }
        producer.close().await.unwrap();
    }
    let config = ConsumerConfig { start_at: StartAt::Earliest, ..ConsumerConfig::default() };
    let mut consumer = target.client.consumer(config).unwrap();
    consumer.assign([TopicPartition::new(&*target.topic, 0)]).await.unwrap();
    let found = read(&mut consumer, expected.len()).await;
    assert_eq!(found.len(), expected.len());
    for (found, (sent, delivery)) in found.into_iter().zip(expected) {
        assert_eq!(Some(found.offset), delivery.await.unwrap().offset);
        assert_eq!((found.key, found.value, found.headers), (sent.key, sent.value, sent.headers));
        assert!(sent.timestamp.is_none_or(|sent| sent == found.timestamp));
    }
}

#[tokio::test]
async fn places_in_time_are_found() {
    let target = target("times", 1).await;
    let producer = target.client.producer(ProducerConfig::default()).unwrap();
    for second in 0..100 {
        let record = NewRecord::to(&*target.topic)
            .value(second.to_string())
            .timestamp(Timestamp(1_700_000_000_000 + second * 1000));
        drop(producer.send(record).await.unwrap());
    }
    producer.close().await.unwrap();
    let partition = TopicPartition::new(&*target.topic, 0);
    for (spec, offset) in [
        (OffsetSpec::Start, 0),
        (OffsetSpec::End, 100),
        (OffsetSpec::Time(Timestamp(1_700_000_041_500)), 42),
        (OffsetSpec::Time(Timestamp(1_800_000_000_000)), 100),
    ] {
        let found = target.client.admin().offsets(&[(partition.clone(), spec)]).await.unwrap();
        assert_eq!(found[&partition], Offset(offset), "{spec:?}");
    }
}

#[tokio::test]
async fn a_group_goes_on_where_it_was() {
    let target = target("groups", 3).await;
    let producer = target.client.producer(ProducerConfig::default()).unwrap();
    for number in 0..300 {
        drop(producer.send(NewRecord::to(&*target.topic).key(number.to_string()).value("x")).await.unwrap());
    }
    producer.flush().await;
    let config = || ConsumerConfig { start_at: StartAt::Earliest, ..ConsumerConfig::group(&target.topic) };
    let mut first = target.client.consumer(config()).unwrap();
    first.subscribe([&*target.topic]).await.unwrap();
    assert_eq!(read(&mut first, 300).await.len(), 300);
    if target.real {
        let admin = target.client.admin();
        let group = admin.group(&target.topic).await.unwrap();
        assert_eq!((group.state.as_str(), group.members.len(), group.assignor.as_str()), ("Stable", 1, "range"));
        assert_eq!(group.members[0].partitions.len(), 3);
        assert!(admin.groups().await.unwrap().iter().any(|listed| listed.name == target.topic));
    }
    first.close().await.unwrap();
    drop(producer.send(NewRecord::to(&*target.topic).value("the 301st")).await.unwrap());
    producer.close().await.unwrap();
    let mut second = target.client.consumer(config()).unwrap();
    second.subscribe([&*target.topic]).await.unwrap();
    let found = read(&mut second, 1).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].value.as_deref(), Some(&b"the 301st"[..]));
    second.close().await.unwrap();
}

#[tokio::test]
async fn administration_does_what_it_says() {
    let target = target("admin", 2).await;
    if !target.real {
        // The small cluster serves none of it; the end-to-end tests run this against a broker.
        let error = target.client.admin().create_topic(&NewTopic::named(&target.topic)).await.unwrap_err();
        assert_eq!(error.code(), Some(wire::ErrorCode::TOPIC_ALREADY_EXISTS));
        return;
    }
    use client::{ConfigChange, ConfigSource, ErrorKind, Resource};
    let admin = target.client.admin();
    let (topic, partition) = (target.topic.as_str(), TopicPartition::new(&*target.topic, 0));
    assert!(!admin.cluster().await.unwrap().brokers.is_empty());
    let error = admin.create_topic(&NewTopic::named(topic)).await.unwrap_err();
    assert_eq!(error.code(), Some(wire::ErrorCode::TOPIC_ALREADY_EXISTS));
    admin.create_partitions(topic, 4, false).await.unwrap();
    assert_eq!(admin.topic(topic).await.unwrap().partitions.len(), 4);
    assert!(admin.topics().await.unwrap().iter().any(|found| &*found.name == topic));
    let resource = Resource::Topic(topic.into());
    let change = ConfigChange::Set("retention.ms".into(), "1234567".into());
    admin.alter_configs(&resource, &[change], false).await.unwrap();
    let configs = admin.configs(&resource).await.unwrap();
    let retention = configs.iter().find(|config| config.name == "retention.ms").unwrap();
    assert_eq!((retention.value.as_deref(), retention.source), (Some("1234567"), ConfigSource::Topic));
    let broker = admin.cluster().await.unwrap().brokers[0].id;
    assert!(!admin.configs(&Resource::Broker(Some(broker))).await.unwrap().is_empty());

    let producer = target.client.producer(ProducerConfig::default()).unwrap();
    for _ in 0..10 {
        drop(producer.send(NewRecord::to(topic).partition(0).value("x")).await.unwrap());
    }
    producer.close().await.unwrap();
    let deleted = admin.delete_records(&HashMap::from([(partition.clone(), Offset(4))])).await.unwrap();
    assert_eq!(deleted[&partition], Offset(4));

    let group = format!("{topic}-group");
    assert_eq!(admin.group(&group).await.unwrap_err().kind(), ErrorKind::NotFound);
    admin.set_group_offsets(&group, &HashMap::from([(partition.clone(), Offset(7))])).await.unwrap();
    assert_eq!(admin.group_offsets(&group).await.unwrap()[&partition].offset, Offset(7));
    admin.delete_group_offsets(&group, std::slice::from_ref(&partition)).await.unwrap();
    assert!(admin.group_offsets(&group).await.unwrap().is_empty());
    admin.set_group_offsets(&group, &HashMap::from([(partition.clone(), Offset(7))])).await.unwrap();
    admin.delete_group(&group).await.unwrap();
    assert_eq!(admin.delete_group(&group).await.unwrap_err().kind(), ErrorKind::NotFound);

    admin.delete_topic(topic).await.unwrap();
    assert_eq!(admin.delete_topic(topic).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(admin.topic(topic).await.unwrap_err().kind(), ErrorKind::NotFound);
}
