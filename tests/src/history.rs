//! What producers were promised, and what the log says: the check of the crash test.
//!
//! Every record's value is `PRODUCER/NUMBER`; a producer counts up from 0 in each partition. The log is read forward
//! and what was read is never read again, but once at the end, all of it: it must not have changed.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use records::{Offset, Timestamp};

use crate::connection::Connection;

/// Far above what a record of the test decompresses to; they are not compressed.
const BATCH_BYTES_MAX: usize = 64 << 20;

/// A batch that the broker acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledged {
    /// Who sent it.
    pub producer: u32,
    /// Where to.
    pub partition: i32,
    /// The offset that the answer named.
    pub base_offset: i64,
    /// The number of its first record.
    pub first: u64,
    /// How many records it has.
    pub count: u32,
}

/// The value of a record.
#[must_use]
pub fn value(producer: u32, number: u64) -> String {
    format!("{producer}/{number}")
}

/// A record of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    offset: i64,
    producer: u32,
    number: u64,
}

/// The log of one topic as far as it was read.
#[derive(Debug)]
pub struct History {
    topic: String,
    partitions: Vec<Vec<Found>>,
    /// By producer and partition: the number that must (idempotent) or may (plain) come next.
    next: HashMap<(u32, i32), u64>,
    /// Producers below this number are idempotent.
    idempotent: u32,
}

impl History {
    /// Of a topic with so many partitions; producers below `idempotent` are idempotent.
    #[must_use]
    pub fn new(topic: &str, partitions: usize, idempotent: u32) -> Self {
        Self { topic: topic.to_owned(), partitions: vec![vec![]; partitions], next: HashMap::new(), idempotent }
    }

    /// Records read so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.partitions.iter().map(Vec::len).sum()
    }

    /// Whether nothing was read yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads on to the end of the log, and checks each record against what its producer has there already.
    ///
    /// # Errors
    /// Something is missing, twice, or out of order; or the broker cannot be asked.
    pub fn read_on(&mut self, connection: &mut Connection) -> Result<()> {
        for index in 0..self.partitions.len() {
            let partition = i32::try_from(index)?;
            let after = self.partitions[index].last().map_or(0, |found| found.offset + 1);
            for found in read(connection, &self.topic, partition, after)? {
                self.add(partition, found)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, partition: i32, found: Found) -> Result<()> {
        let next = self.next.entry((found.producer, partition)).or_default();
        let kind = if found.producer < self.idempotent { "idempotent" } else { "plain" };
        let what =
            format!("{kind} producer {} in partition {partition}: {found:?} where {next} comes next", found.producer);
        // An idempotent producer sends again until it is answered: all its numbers are there. A plain one never sends
        // again: what was not answered may be missing, and still nothing is there twice or out of order.
        ensure!(found.number >= *next, "twice or out of order: {what}");
        ensure!(found.producer >= self.idempotent || found.number == *next, "lost: {what}");
        *next = found.number + 1;
        self.partitions[usize::try_from(partition)?].push(found);
        Ok(())
    }

    /// Whether every acknowledged record is at its offset. Of what was read before; read on first.
    ///
    /// # Errors
    /// One is not there.
    pub fn check(&self, acknowledged: &[Acknowledged]) -> Result<()> {
        for batch in acknowledged {
            let log = &self.partitions[usize::try_from(batch.partition)?];
            for index in 0..i64::from(batch.count) {
                let offset = batch.base_offset + index;
                let number = batch.first + index.unsigned_abs();
                let expected = Found { offset, producer: batch.producer, number };
                match log.binary_search_by_key(&offset, |found| found.offset).map(|at| log[at]) {
                    Ok(found) if found == expected => {}
                    Ok(found) => bail!("acknowledged {batch:?}: the log has {found:?} instead of {expected:?}"),
                    Err(_) => bail!("acknowledged {batch:?}: the log has nothing at {offset}"),
                }
            }
        }
        Ok(())
    }

    /// Reads everything again: the log still says what it said.
    ///
    /// # Errors
    /// It does not.
    pub fn check_unchanged(&self, connection: &mut Connection) -> Result<()> {
        for (index, before) in self.partitions.iter().enumerate() {
            let now = read(connection, &self.topic, i32::try_from(index)?, 0)?;
            if let Some((then, now)) = before.iter().zip(&now).find(|(then, now)| then != now) {
                bail!("partition {index} has changed: {then:?} is now {now:?}");
            }
            ensure!(now.len() >= before.len(), "partition {index}: {} of {} records", now.len(), before.len());
        }
        Ok(())
    }
}

/// The records of a partition from an offset to the high watermark. Offsets grow without a gap within a batch.
fn read(connection: &mut Connection, topic: &str, partition: i32, from: i64) -> Result<Vec<Found>> {
    let mut found: Vec<Found> = vec![];
    let mut next = from;
    loop {
        let (batches, high_watermark) = connection.fetch(topic, partition, Offset(next))?;
        if batches.is_empty() {
            ensure!(next >= high_watermark.0, "partition {partition} ends at {next}, below {high_watermark:?}");
            return Ok(found);
        }
        for batch in batches {
            for record in batch.records(BATCH_BYTES_MAX)? {
                let record = record?;
                if record.offset.0 < next {
                    continue;
                }
                ensure!(record.timestamp > Timestamp(0), "a record has lost its timestamp: {record:?}");
                let (producer, number) = parse(record.value.as_ref()).with_context(|| format!("{record:?}"))?;
                found.push(Found { offset: record.offset.0, producer, number });
            }
            next = batch.next_offset().0;
        }
    }
}

fn parse(value: Option<&Bytes>) -> Result<(u32, u64)> {
    let text = std::str::from_utf8(value.context("a value")?)?;
    // After a space there may be filling.
    let (producer, number) = text.split(' ').next().and_then(|word| word.split_once('/')).context("PRODUCER/NUMBER")?;
    Ok((producer.parse()?, number.parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(offset: i64, producer: u32, number: u64) -> Found {
        Found { offset, producer, number }
    }

    /// Producer 0 is idempotent, producer 1 is plain.
    fn history(records: &[Found]) -> Result<History> {
        let mut history = History::new("t", 1, 1);
        records.iter().try_for_each(|record| history.add(0, *record))?;
        Ok(history)
    }

    #[test]
    fn an_idempotent_producer_has_every_record_once_and_in_order() {
        assert!(history(&[found(0, 0, 0), found(1, 0, 1)]).is_ok());
        assert!(history(&[found(0, 0, 0), found(1, 0, 0)]).unwrap_err().to_string().starts_with("twice"));
        assert!(history(&[found(0, 0, 0), found(1, 0, 2)]).unwrap_err().to_string().starts_with("lost"));
    }

    #[test]
    fn a_plain_producer_may_miss_what_was_not_answered_and_nothing_else() {
        assert!(history(&[found(0, 1, 0), found(1, 1, 5)]).is_ok());
        assert!(history(&[found(0, 1, 5), found(1, 1, 4)]).is_err());
        assert!(history(&[found(0, 1, 5), found(1, 1, 5)]).is_err());
    }

    #[test]
    fn an_acknowledged_record_must_be_at_its_offset() {
        let history = history(&[found(0, 1, 0), found(1, 1, 1), found(5, 1, 2)]).unwrap();
        let batch = |base_offset, first, count| Acknowledged { producer: 1, partition: 0, base_offset, first, count };
        assert!(history.check(&[batch(0, 0, 2), batch(5, 2, 1)]).is_ok());
        assert!(history.check(&[batch(0, 0, 3)]).unwrap_err().to_string().contains("nothing at 2"));
        assert!(history.check(&[batch(0, 1, 1)]).unwrap_err().to_string().contains("instead of"));
    }
}
