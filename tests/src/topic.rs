//! One partition of a topic as a test of few records sees it: produce a text, read all texts back.

use anyhow::{Context as _, Result, ensure};
use records::{Builder, Clock as _, Codec, Headers, Offset};
use wire::{ErrorCode, Records, produce};

use crate::clock::WallClock;
use crate::connection::{Connection, no_error};

const PRODUCE_VERSION: i16 = 9;

/// Produces one record into partition 0, and gives its offset or the broker's refusal.
///
/// # Errors
/// The connection is broken.
pub fn try_produce(connection: &mut Connection, topic: &str, value: &str) -> Result<Result<i64, ErrorCode>> {
    let mut builder = Builder::new(Codec::None);
    builder.push(WallClock.now(), Some(b"key"), Some(value.as_bytes()), &Headers::NONE)?;
    let records = Some(Records::from(builder.build().to_bytes()));
    let data = produce::PartitionProduceData { index: 0, records, ..Default::default() };
    let topic = produce::TopicProduceData { name: topic.into(), partition_data: vec![data], ..Default::default() };
    let request = produce::Request { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() };
    let response: produce::Response = connection.call(PRODUCE_VERSION, &request)?;
    let answer = response.responses.first().and_then(|topic| topic.partition_responses.first()).context("an answer")?;
    Ok(match no_error(answer.error_code) {
        Ok(()) => Ok(answer.base_offset),
        Err(_) => Err(ErrorCode::from_code(answer.error_code)),
    })
}

/// As [`try_produce`], where a refusal is an error.
///
/// # Errors
/// The connection is broken, or the broker refuses.
pub fn produce(connection: &mut Connection, topic: &str, value: &str) -> Result<i64> {
    let produced = try_produce(connection, topic, value)?;
    produced.map_err(|refused| anyhow::anyhow!("produce: error {}: {}", refused.code(), refused.name()))
}

/// All records of partition 0 with their offsets, and the high watermark.
///
/// # Errors
/// The broker refuses, or a batch is damaged.
pub fn read_all(connection: &mut Connection, topic: &str) -> Result<(Vec<(i64, String)>, i64)> {
    let mut found = vec![];
    let mut next = 0;
    loop {
        let (batches, high_watermark) = connection.fetch(topic, 0, Offset(next))?;
        if batches.is_empty() {
            return Ok((found, high_watermark.0));
        }
        for batch in batches {
            for record in batch.records(64 << 20)? {
                let record = record?;
                found.push((record.offset.0, String::from_utf8(record.value.context("a value")?.to_vec())?));
            }
            next = batch.next_offset().0;
        }
    }
}

/// Every acknowledged record is there, at its offset, and nothing besides.
///
/// # Errors
/// It is not so.
pub fn check_all(connection: &mut Connection, topic: &str, acknowledged: &[(i64, String)]) -> Result<()> {
    let (found, _) = read_all(connection, topic)?;
    let differ = found.iter().zip(acknowledged).find(|(found, acknowledged)| found != acknowledged);
    let shown = |record: &(i64, String)| format!("{}: {:.60}", record.0, record.1);
    if let Some((found, acknowledged)) = differ {
        anyhow::bail!("read {}, acknowledged {}", shown(found), shown(acknowledged));
    }
    ensure!(found.len() == acknowledged.len(), "{} records read, {} acknowledged", found.len(), acknowledged.len());
    Ok(())
}
