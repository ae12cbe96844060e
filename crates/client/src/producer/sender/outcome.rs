//! What an answer means for each batch of its request: delivered, to be sent again, given up; and what then becomes of
//! the partition's sequence.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use records::{Offset, Timestamp};
use tokio::time::Instant;
use wire::{ErrorCode, Text, produce};

use super::super::Delivered;
use super::super::accumulator::Answer;
use super::{Identity, Key, Outgoing, Request, Sender, sequence_after};
use crate::Error;

impl Sender {
    pub(super) fn answered(
        &mut self,
        request: Request,
        result: Result<Option<produce::Response>, Error>,
        now: Instant,
    ) {
        if let Some(broker) = self.brokers.get_mut(&request.broker) {
            broker.in_flight -= 1;
        }
        for (key, outgoing) in &request.batches {
            if let Some(partition) = self.partitions.get_mut(key) {
                partition.in_flight.remove(&outgoing.number);
            }
        }
        match result {
            Ok(None) => {
                for (key, outgoing) in request.batches {
                    self.deliver(&key, outgoing, None, None);
                }
            }
            Ok(Some(response)) => self.judge(request, response, now),
            Err(error) => {
                self.cluster.forget_leaders();
                for (key, mut outgoing) in request.batches {
                    outgoing.uncertain |= request.left;
                    if error.is_retriable() {
                        self.again(&key, outgoing, now);
                    } else {
                        self.fail(&key, outgoing, error.clone());
                    }
                }
            }
        }
    }

    /// Matches the partitions of an answer with the batches of its request.
    fn judge(&mut self, request: Request, response: produce::Response, now: Instant) {
        let mut answers: HashMap<(Text, i32), produce::PartitionProduceResponse> = HashMap::new();
        for topic in response.responses {
            for partition in topic.partition_responses {
                answers.insert((topic.name.clone(), partition.index), partition);
            }
        }
        for (key, mut outgoing) in request.batches {
            let Some(answer) = answers.remove(&(Text::from(&key.0), key.1)) else {
                outgoing.uncertain = true;
                self.fail(
                    &key,
                    outgoing,
                    Error::broker(ErrorCode::UNKNOWN_SERVER_ERROR, "the broker left out a partition"),
                );
                continue;
            };
            let append_time = (answer.log_append_time_ms >= 0).then_some(Timestamp(answer.log_append_time_ms));
            match ErrorCode::from(answer.error_code) {
                ErrorCode::NONE => self.deliver(&key, outgoing, Some(answer.base_offset), append_time),
                ErrorCode::DUPLICATE_SEQUENCE_NUMBER => self.deliver(&key, outgoing, None, append_time),
                code => {
                    let what = format!("writing to {}/{}", key.0, key.1);
                    let error = Error::broker(code, what).with_message(answer.error_message.as_ref());
                    tracing::debug!(topic = %key.0, partition = key.1, %error, "a batch was not written");
                    self.refused(&key, outgoing, code, error, now);
                }
            }
        }
    }

    fn refused(&mut self, key: &Key, mut outgoing: Outgoing, code: ErrorCode, error: Error, now: Instant) {
        let earlier = self.partitions.get(key).is_some_and(|partition| {
            let before = |number: &u64| *number < outgoing.number;
            partition.in_flight.keys().any(before) || partition.again.keys().any(before)
        });
        match code {
            // It follows one that failed: it comes again after it, and the broker surely does not have it.
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER if earlier => self.again(key, outgoing, now),
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
            | ErrorCode::UNKNOWN_PRODUCER_ID
            | ErrorCode::INVALID_PRODUCER_EPOCH
            | ErrorCode::INVALID_PRODUCER_ID_MAPPING
                if self.config.idempotent && !outgoing.uncertain =>
            {
                self.again(key, outgoing, now);
                self.partitions.entry(key.clone()).or_default().renewing = true;
            }
            code if code.retriable() => {
                self.cluster.forget(&key.0);
                // The leader has it and stopped waiting for the others.
                let written = [ErrorCode::REQUEST_TIMED_OUT, ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND];
                outgoing.uncertain |= written.contains(&code);
                self.again(key, outgoing, now);
            }
            _ => self.fail(key, outgoing, error),
        }
    }

    /// Puts a batch back, to be sent again.
    fn again(&mut self, key: &Key, outgoing: Outgoing, now: Instant) {
        let partition = self.partitions.entry(key.clone()).or_default();
        // Batches that fail together count once.
        if !std::mem::replace(&mut partition.draining, true) {
            partition.not_before = Some(now + self.cluster.backoff(partition.failures));
            partition.failures = partition.failures.saturating_add(1);
        }
        partition.again.insert(outgoing.number, outgoing);
    }

    fn deliver(&mut self, key: &Key, outgoing: Outgoing, base: Option<i64>, append_time: Option<Timestamp>) {
        if let Some(partition) = self.partitions.get_mut(key) {
            partition.failures = 0;
        }
        for (answer, delta) in outgoing.answers.into_iter().zip(0..) {
            let offset = base.filter(|base| *base >= 0).map(|base| Offset(base).after(delta));
            // Whoever dropped the delivery does not care.
            let _ = answer.send(Ok(Delivered { partition: key.1, offset, append_time }));
        }
    }

    /// Gives a batch up that was given a sequence.
    fn fail(&mut self, key: &Key, outgoing: Outgoing, error: Error) {
        let partition = self.partitions.entry(key.clone()).or_default();
        if partition.identity.is_some() {
            let last = partition.next_number == outgoing.number + 1;
            if last && !outgoing.uncertain {
                // Nothing was counted after it: the next batch takes its place.
                partition.next_sequence = outgoing.batch.header().base_sequence;
                partition.next_number = outgoing.number;
            } else {
                partition.renewing = true;
            }
        }
        let error = if outgoing.uncertain { Error::Unknown(Box::new(error)) } else { error };
        tell(outgoing.answers, &error);
    }

    /// Goes on where all batches under way are answered.
    pub(super) fn settle(&mut self) {
        let mut renew = Vec::new();
        for (key, partition) in &mut self.partitions {
            if !partition.in_flight.is_empty() {
                continue;
            }
            partition.draining = false;
            if partition.renewing && partition.identity.take().is_some() {
                renew.push(key.clone());
            }
        }
        for key in renew {
            let partition = self.partitions.entry(key.clone()).or_default();
            let (unknown, sure) =
                std::mem::take(&mut partition.again).into_iter().partition(|(_, batch)| batch.uncertain);
            partition.again = sure;
            let unknown: BTreeMap<u64, Outgoing> = unknown;
            for (_, outgoing) in unknown {
                let error = Error::Disconnected {
                    address: self.cluster.config.target.addresses[0].clone(),
                    reason: "an earlier batch was given up".into(),
                };
                tell(outgoing.answers, &Error::Unknown(Box::new(error)));
            }
            self.identify(Some(key), Duration::ZERO);
        }
    }

    /// A partition has a new identity: what waits is counted from 0.
    pub(super) fn renewed(&mut self, key: &Key, result: Result<Identity, Error>) {
        match result {
            Ok(identity) => {
                let partition = self.partitions.entry(key.clone()).or_default();
                partition.renewing = false;
                partition.identity = Some(identity);
                partition.next_sequence = 0;
                for outgoing in partition.again.values_mut() {
                    outgoing.batch.stamp_producer(identity.id, identity.epoch, partition.next_sequence);
                    partition.next_sequence =
                        sequence_after(partition.next_sequence, outgoing.batch.header().record_count);
                }
            }
            Err(error) if error.is_retriable() => {
                let pause = self.cluster.backoff(3);
                self.identify(Some(key.clone()), pause);
            }
            Err(error) => {
                self.give_up(key, &error);
                let partition = self.partitions.entry(key.clone()).or_default();
                partition.renewing = false;
                partition.identity = None;
                partition.next_sequence = 0;
                // What the partition counted under the old one must not go on: everybody starts anew.
                self.identity = None;
            }
        }
    }

    /// Gives up what is older than a delivery may take.
    pub(super) fn expire(&mut self, key: &Key, now: Instant) {
        let limit = self.config.delivery_timeout;
        let Some(oldest) = now.checked_sub(limit) else { return };
        let error = || Error::TimedOut { what: format!("writing to {}/{}", key.0, key.1), after: limit };
        for gathered in self.accumulator.take_older(&key.0, key.1, oldest) {
            tell(gathered.answers, &error());
        }
        let partition = self.partitions.entry(key.clone()).or_default();
        let old: Vec<u64> =
            partition.again.iter().filter(|(_, batch)| batch.created <= oldest).map(|(number, _)| *number).collect();
        let mut expired = VecDeque::new();
        for number in old {
            expired.extend(partition.again.remove(&number));
        }
        let any = !expired.is_empty();
        for outgoing in expired {
            self.fail(key, outgoing, error());
        }
        if any {
            self.settle();
        }
        // Look again when the next one is due.
        if let Some(at) = self.partitions.get(key).and_then(|partition| partition.again.values().next()) {
            let at = at.created + limit;
            self.wake_at(at);
        }
        if let Some(at) = self.accumulator.oldest(&key.0, key.1) {
            self.wake_at(at + limit);
        }
    }

    /// Fails everything of a topic that is not there.
    pub(super) fn give_up_topic(&mut self, topic: &Arc<str>, error: &Error) {
        let mut keys = self.accumulator.partitions();
        keys.extend(self.partitions.keys().cloned());
        for key in keys.iter().filter(|key| key.0 == *topic) {
            self.give_up(key, error);
        }
    }

    pub(super) fn give_up(&mut self, key: &Key, error: &Error) {
        for gathered in self.accumulator.take_older(&key.0, key.1, Instant::now()) {
            tell(gathered.answers, error);
        }
        let partition = self.partitions.entry(key.clone()).or_default();
        for (_, outgoing) in std::mem::take(&mut partition.again) {
            self.fail(key, outgoing, error.clone());
        }
    }
}

fn tell(answers: Vec<Answer>, error: &Error) {
    for answer in answers {
        let _ = answer.send(Err(error.clone()));
    }
}
