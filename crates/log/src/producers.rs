//! What a partition remembers of idempotent producers, so that a retry is not written twice (KIP-98). Pure.
//!
//! The last five batches of each producer are kept, because that is how many a producer may have in flight. A producer
//! of whom nothing is known may begin with any sequence: its state may have expired.

use std::collections::{HashMap, VecDeque};

use records::{Header, Offset, ProducerEpoch, ProducerId, Timestamp};

/// How many batches of a producer are remembered: `max.in.flight.requests.per.connection` may be up to this.
const REMEMBERED: usize = 5;

/// One batch that was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    /// Sequence of its first record.
    pub first_sequence: i32,
    /// Sequence of its last record.
    pub last_sequence: i32,
    /// Offset of its first record.
    pub base_offset: Offset,
    /// The offset after its last record.
    pub next_offset: Offset,
    /// The largest timestamp of its records.
    pub timestamp: Timestamp,
}

/// What is remembered of one producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Producer {
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// When it was heard of last, by the broker's clock: the times of its records may be years old. Not stored; a
    /// snapshot that is read counts as hearing of it.
    pub last_seen: Timestamp,
    /// Its last batches, oldest first; at most five.
    pub batches: VecDeque<Past>,
}

/// All producers of a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Producers {
    by_id: HashMap<ProducerId, Producer>,
}

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is new: append it.
    Fresh,
    /// It was appended before, and this is where.
    Duplicate(Past),
}

/// Why a batch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    /// A batch before it is missing, or it repeats one that is long gone.
    #[error("producer {producer}: sequence {found} where {expected} comes next")]
    OutOfOrder {
        /// Who sent it.
        producer: ProducerId,
        /// The sequence that would follow.
        expected: i32,
        /// The sequence it has.
        found: i32,
    },
    /// The producer was replaced by one of a newer epoch.
    #[error("producer {producer}: epoch {found} after epoch {current}")]
    Fenced {
        /// Who sent it.
        producer: ProducerId,
        /// The epoch that holds.
        current: ProducerEpoch,
        /// The epoch it has.
        found: ProducerEpoch,
    },
}

impl Producers {
    /// Judges a batch by its header. Batches without a producer id are always fresh.
    ///
    /// # Errors
    /// [`SequenceError`]: the batch must not be appended.
    pub fn check(&self, header: &Header) -> Result<Verdict, SequenceError> {
        let producer = header.producer_id;
        let Some(known) = self.by_id.get(&producer).filter(|_| producer != ProducerId::NONE) else {
            return Ok(Verdict::Fresh);
        };
        if header.producer_epoch < known.epoch {
            return Err(SequenceError::Fenced { producer, current: known.epoch, found: header.producer_epoch });
        }
        let found = header.base_sequence;
        if header.producer_epoch > known.epoch {
            return match found {
                0 => Ok(Verdict::Fresh),
                _ => Err(SequenceError::OutOfOrder { producer, expected: 0, found }),
            };
        }
        let last = sequence_after(found, header.last_offset_delta);
        if let Some(past) = known.batches.iter().find(|p| p.first_sequence == found && p.last_sequence == last) {
            return Ok(Verdict::Duplicate(*past));
        }
        match known.batches.back().map(|past| sequence_after(past.last_sequence, 1)) {
            Some(expected) if expected != found => Err(SequenceError::OutOfOrder { producer, expected, found }),
            _ => Ok(Verdict::Fresh),
        }
    }

    /// Remembers a batch that was appended at this time; its offset is assigned.
    pub fn applied(&mut self, header: &Header, at: Timestamp) {
        if header.producer_id == ProducerId::NONE || header.base_sequence < 0 {
            return;
        }
        let past = Past {
            first_sequence: header.base_sequence,
            last_sequence: sequence_after(header.base_sequence, header.last_offset_delta),
            base_offset: header.base_offset,
            next_offset: header.next_offset(),
            timestamp: header.max_timestamp,
        };
        let known = self.by_id.entry(header.producer_id).or_insert_with(|| Producer {
            epoch: header.producer_epoch,
            last_seen: at,
            batches: VecDeque::new(),
        });
        known.last_seen = known.last_seen.max(at);
        if known.epoch != header.producer_epoch {
            known.epoch = header.producer_epoch;
            known.batches.clear();
        }
        known.batches.push_back(past);
        if known.batches.len() > REMEMBERED {
            known.batches.pop_front();
        }
    }

    /// Puts what an older snapshot knew under what is known from later batches. The two may overlap, when the snapshot
    /// was written after the later batches: what both know counts once.
    pub fn add_older(&mut self, older: Producers) {
        for (id, mut old) in older.by_id {
            match self.by_id.entry(id) {
                std::collections::hash_map::Entry::Vacant(vacant) => {
                    vacant.insert(old);
                }
                std::collections::hash_map::Entry::Occupied(mut newer) => {
                    let newer = newer.get_mut();
                    newer.last_seen = newer.last_seen.max(old.last_seen);
                    if newer.epoch == old.epoch {
                        if let Some(first) = newer.batches.front() {
                            old.batches.retain(|past| past.next_offset <= first.base_offset);
                        }
                        old.batches.extend(newer.batches.drain(..));
                        let surplus = old.batches.len().saturating_sub(REMEMBERED);
                        old.batches.drain(..surplus);
                        newer.batches = old.batches;
                    }
                }
            }
        }
    }

    /// Forgets the producers that were not heard of since `before`, and, beyond `count_max`, those idle longest.
    pub fn expire(&mut self, before: Timestamp, count_max: usize) {
        self.by_id.retain(|_, producer| producer.last_seen >= before);
        if self.by_id.len() > count_max {
            let last_offset = |producer: &Producer| producer.batches.back().map(|past| past.next_offset);
            let mut ages: Vec<_> =
                self.by_id.iter().map(|(id, producer)| (producer.last_seen, last_offset(producer), *id)).collect();
            ages.sort_unstable();
            for (.., id) in &ages[..ages.len() - count_max] {
                self.by_id.remove(id);
            }
        }
    }

    /// How many producers are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether no producer is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (ProducerId, &Producer)> {
        self.by_id.iter().map(|(id, producer)| (*id, producer))
    }

    /// Takes in a producer as a snapshot holds it.
    pub(crate) fn restore(&mut self, id: ProducerId, producer: Producer) {
        self.by_id.insert(id, producer);
    }
}

/// Sequences wrap from 2147483647 to 0.
fn sequence_after(sequence: i32, count: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(count);
    i32::try_from(sum % (i64::from(i32::MAX) + 1)).expect("a remainder of 2^31 fits")
}
