//! Fetch sessions (KIP-227) over a real broker, with their records: what an incremental answer holds and leaves out.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use records::{Builder, Codec, Headers, Timestamp};
use weir_tests::broker::{Options, Weir};
use weir_tests::connection::Connection;
use wire::{ErrorCode, delete_records, fetch, metadata, produce};

const TOPICS: [&str; 2] = ["session-a", "session-b"];
const VERSION: i16 = 12;
const VERSION_BY_ID: i16 = 13;

/// Appends one record.
fn produce(connection: &mut Connection, topic: &str, partition: i32) -> Result<()> {
    let mut batch = Builder::new(Codec::None);
    batch.push(Timestamp(1_700_000_000_000), None, Some(b"value"), &Headers::NONE)?;
    let records = Some(batch.build().to_bytes().into());
    let data = produce::PartitionProduceData { index: partition, records, ..Default::default() };
    let topic = produce::TopicProduceData { name: topic.into(), partition_data: vec![data], ..Default::default() };
    let request = produce::Request { acks: -1, timeout_ms: 10_000, topic_data: vec![topic], ..Default::default() };
    let answer: produce::Response = connection.call(9, &request)?;
    ensure!(answer.responses[0].partition_responses[0].error_code == 0, "{answer:?}");
    Ok(())
}

fn asked(topic: &str, partitions: &[(i32, i64)]) -> fetch::FetchTopic {
    let place = |(partition, fetch_offset): &(i32, i64)| fetch::FetchPartition {
        partition: *partition,
        fetch_offset: *fetch_offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    fetch::FetchTopic { topic: topic.into(), partitions: partitions.iter().map(place).collect(), ..Default::default() }
}

fn request(session_id: i32, session_epoch: i32, topics: Vec<fetch::FetchTopic>) -> fetch::Request {
    fetch::Request { session_id, session_epoch, topics, max_bytes: 8 << 20, ..Default::default() }
}

/// Which partitions an answer holds, each with its high watermark and the bytes of its records.
fn told(answer: &fetch::Response) -> BTreeMap<(String, i32), (i64, usize)> {
    let of_topic = |topic: &fetch::FetchableTopicResponse| {
        let name = topic.topic.to_string();
        let one = move |data: &fetch::PartitionData| {
            let bytes = data.records.as_ref().map_or(0, wire::Records::len);
            ((name.clone(), data.partition_index), (data.high_watermark, bytes))
        };
        topic.partitions.iter().map(one).collect::<Vec<_>>()
    };
    answer.responses.iter().flat_map(of_topic).collect()
}

#[test]
fn an_incremental_fetch_asks_and_is_told_only_what_changed() -> Result<()> {
    let weir = Weir::start()?;
    let mut connection = Connection::open(&weir.bootstrap())?;
    for topic in TOPICS {
        connection.create_topic(topic, 2)?;
    }
    let [a, b] = TOPICS;
    produce(&mut connection, a, 0)?;
    let full = request(0, 0, vec![asked(a, &[(0, 0), (1, 0)]), asked(b, &[(0, 0)])]);
    let answer: fetch::Response = connection.call(VERSION, &full)?;
    let session = answer.session_id;
    ensure!(answer.error_code == 0 && session > 0, "{answer:?}");
    ensure!(told(&answer).len() == 3, "a full answer holds everything: {answer:?}");

    // From where the first answer ended, on another connection: sessions are ids.
    let mut connection = Connection::open(&weir.bootstrap())?;
    let next = request(session, 1, vec![asked(a, &[(0, 1)])]);
    let answer: fetch::Response = connection.call(VERSION, &next)?;
    ensure!(answer.error_code == 0 && answer.session_id == session && answer.responses.is_empty(), "{answer:?}");

    produce(&mut connection, b, 0)?;
    let answer: fetch::Response = connection.call(VERSION, &request(session, 2, vec![]))?;
    let news = told(&answer);
    ensure!(news.keys().map(|(topic, _)| topic.as_str()).collect::<Vec<_>>() == [b], "{answer:?}");
    ensure!(news.values().all(|(high_watermark, bytes)| *high_watermark == 1 && *bytes > 0), "{answer:?}");
    // What is not asked from further on comes again: it has records.
    let answer: fetch::Response = connection.call(VERSION, &request(session, 3, vec![]))?;
    ensure!(told(&answer) == news, "{answer:?}");

    // A log start that moved is news without records.
    let delete = delete_records::DeleteRecordsPartition { partition_index: 0, offset: 1, ..Default::default() };
    let topic = delete_records::DeleteRecordsTopic { name: b.into(), partitions: vec![delete], ..Default::default() };
    let delete = delete_records::Request { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
    let deleted: delete_records::Response = connection.call(2, &delete)?;
    ensure!(deleted.topics[0].partitions[0].error_code == 0, "{deleted:?}");
    let answer: fetch::Response = connection.call(VERSION, &request(session, 4, vec![asked(b, &[(0, 1)])]))?;
    ensure!(told(&answer).values().eq([&(1, 0)]), "{answer:?}");
    ensure!(answer.responses[0].partitions[0].log_start_offset == 1, "{answer:?}");

    // Forgotten partitions are not told of; those that are not there are, each time.
    let mut forget = request(session, 5, vec![asked("session-missing", &[(0, 0)])]);
    forget.forgotten_topics_data =
        vec![fetch::ForgottenTopic { topic: b.into(), partitions: vec![0], ..Default::default() }];
    let answer: fetch::Response = connection.call(VERSION, &forget)?;
    let code = answer.responses[0].partitions[0].error_code;
    ensure!(told(&answer).len() == 1 && code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.code(), "{answer:?}");
    produce(&mut connection, b, 0)?;
    let answer: fetch::Response = connection.call(VERSION, &request(session, 6, vec![]))?;
    ensure!(told(&answer).len() == 1 && answer.responses[0].partitions[0].error_code == code, "{answer:?}");

    let error_of = |connection: &mut Connection, version, request: fetch::Request| -> Result<ErrorCode> {
        let answer: fetch::Response = connection.call(version, &request)?;
        Ok(ErrorCode::from_code(answer.error_code))
    };
    let wrong_epoch = error_of(&mut connection, VERSION, request(session, 99, vec![]))?;
    ensure!(wrong_epoch == ErrorCode::INVALID_FETCH_SESSION_EPOCH, "{wrong_epoch:?}");
    let by_id = error_of(&mut connection, VERSION_BY_ID, request(session, 7, vec![]))?;
    ensure!(by_id == ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR, "{by_id:?}");
    let closed: fetch::Response = connection.call(VERSION, &request(session, -1, vec![]))?;
    ensure!(closed.error_code == 0 && closed.session_id == 0, "{closed:?}");
    let gone = error_of(&mut connection, VERSION, request(session, 7, vec![]))?;
    ensure!(gone == ErrorCode::FETCH_SESSION_ID_NOT_FOUND, "{gone:?}");
    weir.finish()
}

#[test]
fn topics_by_id_and_a_wait_that_ends_with_news() -> Result<()> {
    let weir = Weir::start()?;
    let mut connection = Connection::open(&weir.bootstrap())?;
    let [a, _] = TOPICS;
    connection.create_topic(a, 1)?;
    let named = metadata::MetadataRequestTopic { name: Some(a.into()), ..Default::default() };
    let described: metadata::Response =
        connection.call(12, &metadata::Request { topics: Some(vec![named]), ..Default::default() })?;
    let topic_id = described.topics.first().context("the topic")?.topic_id;
    let topic = fetch::FetchTopic { topic_id, topic: "".into(), ..asked(a, &[(0, 0)]) };
    let answer: fetch::Response = connection.call(VERSION_BY_ID, &request(0, 0, vec![topic]))?;
    ensure!(answer.error_code == 0 && answer.session_id > 0, "{answer:?}");
    // Nothing is there: the request waits, and the produce of another connection ends the wait.
    let waiting = fetch::Request { min_bytes: 1, max_wait_ms: 30_000, ..request(answer.session_id, 1, vec![]) };
    let sent = connection.send(VERSION_BY_ID, &waiting)?;
    produce(&mut Connection::open(&weir.bootstrap())?, a, 0)?;
    let (answered, answer): (i32, fetch::Response) = connection.receive(VERSION_BY_ID)?;
    ensure!(answered == sent && answer.error_code == 0, "{answer:?}");
    ensure!(answer.responses.len() == 1 && answer.responses[0].topic_id == topic_id, "{answer:?}");
    ensure!(answer.responses[0].partitions[0].high_watermark == 1, "{answer:?}");
    weir.finish()
}

#[test]
fn without_room_there_is_no_session_and_fetches_work() -> Result<()> {
    let sets = vec!["limits.fetch_sessions_max=1".to_owned()];
    let weir = Weir::start_with(Options { sets, ..Options::default() })?;
    let mut connection = Connection::open(&weir.bootstrap())?;
    let [a, _] = TOPICS;
    connection.create_topic(a, 1)?;
    let first: fetch::Response = connection.call(VERSION, &request(0, 0, vec![asked(a, &[(0, 0)])]))?;
    let second: fetch::Response = connection.call(VERSION, &request(0, 0, vec![asked(a, &[(0, 0)])]))?;
    ensure!(first.session_id > 0 && second.session_id == 0, "{first:?} {second:?}");
    ensure!(second.error_code == 0 && told(&second).len() == 1, "{second:?}");
    weir.finish()
}
