//! Every API that the broker advertises, at every version: a request is answered by bytes that decode as the answer of
//! that version, whatever it asks for.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use records::{Builder, Codec, Headers, Timestamp};
use weir_tests::broker::Weir;
use weir_tests::connection::Connection;
use wire::{
    ApiKey, api_versions, fetch, find_coordinator, list_offsets, metadata, offset_commit, offset_fetch, produce,
};

/// Requests made by an independent codec, every field set to something: most of them ask for things that are not there.
const VECTORS: &str = include_str!("../../crates/wire/tests/vectors.txt");
const TOPIC: &str = "every-version";

/// What the broker says it serves.
fn advertised(weir: &Weir) -> Result<Vec<(ApiKey, i16, i16)>> {
    let request = api_versions::Request {
        client_software_name: "tests".into(),
        client_software_version: "1".into(),
        ..Default::default()
    };
    let answer: api_versions::Response = Connection::open(&weir.bootstrap())?.call(3, &request)?;
    ensure!(answer.error_code == 0, "ApiVersions answers {}", answer.error_code);
    answer
        .api_keys
        .iter()
        .map(|api| {
            let key = ApiKey::from_i16(api.api_key).with_context(|| format!("API {}", api.api_key))?;
            // Produce 0 to 2 are advertised for the sake of old clients, and never used.
            let min = if key == ApiKey::Produce { 3 } else { api.min_version };
            Ok((key, min, api.max_version))
        })
        .collect()
}

fn unhex(text: &str) -> Result<Bytes> {
    ensure!(text.len().is_multiple_of(2), "an odd number of digits");
    (0..text.len()).step_by(2).map(|at| Ok(u8::from_str_radix(&text[at..at + 2], 16)?)).collect()
}

#[test]
fn every_request_gets_an_answer_of_its_version() -> Result<()> {
    let weir = Weir::start()?;
    let served = advertised(&weir)?;
    let mut answered = BTreeSet::new();
    for line in VECTORS.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [key, kind, version, _, body] = fields[..] else { continue };
        let (key, version): (i16, i16) = (key.parse()?, version.parse()?);
        let Some((key, ..)) = served.iter().find(|(k, min, max)| k.code() == key && (*min..=*max).contains(&version))
        else {
            continue;
        };
        if kind != "req" {
            continue;
        }
        let mut connection = Connection::open(&weir.bootstrap())?;
        let what = || format!("{} version {version}: {line}", key.name());
        connection.send_raw(*key, version, &unhex(body)?)?;
        connection.receive_any(*key, version).with_context(what)?;
        answered.insert((key.code(), version));
    }
    for (key, min, max) in served {
        for version in min..=max {
            ensure!(answered.contains(&(key.code(), version)), "no request of {} version {version}", key.name());
        }
    }
    weir.finish_with(|line| line.contains(" WARN "))
}

#[test]
fn records_and_offsets_are_the_same_at_every_version() -> Result<()> {
    let weir = Weir::start()?;
    let served = advertised(&weir)?;
    let versions = |key: ApiKey| {
        let (_, min, max) = served.iter().find(|(k, ..)| *k == key).copied().expect("it is advertised");
        min..=max
    };
    let mut connection = Connection::open(&weir.bootstrap())?;
    connection.create_topic(TOPIC, 1)?;
    let asked = metadata::MetadataRequestTopic { name: Some(TOPIC.into()), ..Default::default() };
    let mut topic_id = uuid::Uuid::nil();
    for version in versions(ApiKey::Metadata) {
        let request = metadata::Request { topics: Some(vec![asked.clone()]), ..Default::default() };
        let answer: metadata::Response = connection.call(version, &request)?;
        ensure!(answer.topics.len() == 1 && answer.topics[0].error_code == 0, "Metadata {version}: {answer:?}");
        ensure!(answer.topics[0].partitions.len() == 1 && answer.brokers.len() == 1, "Metadata {version}: {answer:?}");
        topic_id = answer.topics[0].topic_id;
    }
    let mut count = 0;
    for version in versions(ApiKey::Produce) {
        let mut batch = Builder::new(Codec::None);
        batch.push(Timestamp(1_700_000_000_000 + count), None, Some(b"value"), &Headers::NONE)?;
        let data =
            produce::PartitionProduceData { records: Some(batch.build().to_bytes().into()), ..Default::default() };
        let by_id = version >= 13;
        let topic = produce::TopicProduceData {
            name: if by_id { "".into() } else { TOPIC.into() },
            topic_id: if by_id { topic_id } else { uuid::Uuid::nil() },
            partition_data: vec![data],
            ..Default::default()
        };
        let request = produce::Request { acks: -1, timeout_ms: 10_000, topic_data: vec![topic], ..Default::default() };
        let answer: produce::Response = connection.call(version, &request)?;
        let done = &answer.responses[0].partition_responses[0];
        ensure!(done.error_code == 0 && done.base_offset == count, "Produce {version}: {done:?}");
        count += 1;
    }
    for version in versions(ApiKey::Fetch) {
        let partition = fetch::FetchPartition { partition_max_bytes: 1 << 20, ..Default::default() };
        let by_id = version >= 13;
        let topic = fetch::FetchTopic {
            topic: if by_id { "".into() } else { TOPIC.into() },
            topic_id: if by_id { topic_id } else { uuid::Uuid::nil() },
            partitions: vec![partition],
            ..Default::default()
        };
        let request = fetch::Request {
            max_wait_ms: 100,
            min_bytes: 1,
            max_bytes: 1 << 20,
            topics: vec![topic],
            ..Default::default()
        };
        let answer: fetch::Response = connection.call(version, &request)?;
        let found = &answer.responses[0].partitions[0];
        ensure!(found.error_code == 0 && found.high_watermark == count, "Fetch {version}: {found:?}");
        let mut bytes = found.records.clone().context("no records")?.into_bytes();
        let mut read = 0;
        while let Some(batch) = records::Batch::split_first(&mut bytes)? {
            read = batch.next_offset().0;
        }
        ensure!(read == count, "Fetch {version} gives {read} of {count} records");
    }
    for version in versions(ApiKey::ListOffsets) {
        for (timestamp, expected) in [(-1, count), (-2, 0), (1_700_000_000_003, 3)] {
            let partition = list_offsets::ListOffsetsPartition { timestamp, ..Default::default() };
            let topic = list_offsets::ListOffsetsTopic {
                name: TOPIC.into(),
                partitions: vec![partition],
                ..Default::default()
            };
            let request = list_offsets::Request { replica_id: -1, topics: vec![topic], ..Default::default() };
            let answer: list_offsets::Response = connection.call(version, &request)?;
            let found = &answer.topics[0].partitions[0];
            ensure!(
                found.error_code == 0 && found.offset == expected,
                "ListOffsets {version} at {timestamp}: {found:?}"
            );
        }
    }
    for version in versions(ApiKey::FindCoordinator) {
        let mut request = find_coordinator::Request::default();
        if version >= 4 {
            request.coordinator_keys = vec!["a-group".into()];
        } else {
            request.key = "a-group".into();
        }
        let answer: find_coordinator::Response = connection.call(version, &request)?;
        let port = answer.coordinators.first().map_or(answer.port, |coordinator| coordinator.port);
        ensure!(answer.error_code == 0 && port == i32::from(weir.port()), "FindCoordinator {version}: {answer:?}");
    }
    for version in versions(ApiKey::OffsetCommit) {
        let partition =
            offset_commit::OffsetCommitRequestPartition { committed_offset: i64::from(version), ..Default::default() };
        let topic = offset_commit::OffsetCommitRequestTopic {
            name: TOPIC.into(),
            partitions: vec![partition],
            ..Default::default()
        };
        let request = offset_commit::Request { group_id: "a-group".into(), topics: vec![topic], ..Default::default() };
        let answer: offset_commit::Response = connection.call(version, &request)?;
        ensure!(answer.topics[0].partitions[0].error_code == 0, "OffsetCommit {version}: {answer:?}");
    }
    let committed = i64::from(*versions(ApiKey::OffsetCommit).end());
    for version in versions(ApiKey::OffsetFetch) {
        let mut request = offset_fetch::Request::default();
        if version >= 8 {
            let topic = offset_fetch::OffsetFetchRequestTopics {
                name: TOPIC.into(),
                partition_indexes: vec![0],
                ..Default::default()
            };
            let group = offset_fetch::OffsetFetchRequestGroup {
                group_id: "a-group".into(),
                topics: Some(vec![topic]),
                ..Default::default()
            };
            request.groups = vec![group];
        } else {
            let topic = offset_fetch::OffsetFetchRequestTopic {
                name: TOPIC.into(),
                partition_indexes: vec![0],
                ..Default::default()
            };
            request.group_id = "a-group".into();
            request.topics = Some(vec![topic]);
        }
        let answer: offset_fetch::Response = connection.call(version, &request)?;
        let found = match answer.groups.first() {
            Some(group) => group.topics[0].partitions[0].committed_offset,
            None => answer.topics[0].partitions[0].committed_offset,
        };
        ensure!(found == committed, "OffsetFetch {version}: {answer:?}");
    }
    weir.finish()
}
