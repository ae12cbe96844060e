//! What members of a consumer group tell each other through the broker, which does not look inside: subscriptions
//! (Kafka's `ConsumerProtocolSubscription`, written as version 1) and assignments (`ConsumerProtocolAssignment`).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};

use crate::TopicPartition;

/// What a member wants, and has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) topics: Vec<Arc<str>>,
    pub(super) owned: Vec<TopicPartition>,
    /// The generation in which it got what it owns; −1 when it does not say.
    pub(super) generation: i32,
}

impl Subscription {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        out.put_i16(1);
        put_len(&mut out, self.topics.len());
        for topic in &self.topics {
            put_text(&mut out, topic);
        }
        out.put_i32(-1);
        put_partitions(&mut out, &self.owned);
        out.into()
    }

    /// Reads any version: what newer ones add comes last.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = bytes;
        let version = get_i16(&mut input)?;
        let mut topics = Vec::new();
        for _ in 0..get_i32(&mut input)?.max(0) {
            topics.push(get_text(&mut input)?);
        }
        skip_bytes(&mut input)?;
        let owned = if version >= 1 { get_partitions(&mut input)? } else { vec![] };
        let generation = if version >= 2 { get_i32(&mut input)? } else { -1 };
        Some(Self { topics, owned, generation })
    }
}

pub(super) fn encode_assignment(partitions: &[TopicPartition]) -> Bytes {
    let mut out = Vec::new();
    out.put_i16(1);
    put_partitions(&mut out, partitions);
    out.put_i32(-1);
    out.into()
}

/// No bytes at all are no partitions.
pub(super) fn decode_assignment(bytes: &[u8]) -> Option<Vec<TopicPartition>> {
    if bytes.is_empty() {
        return Some(vec![]);
    }
    let mut input = bytes;
    let _version = get_i16(&mut input)?;
    get_partitions(&mut input)
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    out.put_i32(i32::try_from(len).expect("a group's lists are short"));
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.put_i16(i16::try_from(text.len()).expect("a topic's name has at most 249 bytes"));
    out.put_slice(text.as_bytes());
}

fn put_partitions(out: &mut Vec<u8>, partitions: &[TopicPartition]) {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(&partition.topic).or_default().push(partition.partition);
    }
    put_len(out, topics.len());
    for (topic, partitions) in topics {
        put_text(out, topic);
        put_len(out, partitions.len());
        partitions.into_iter().for_each(|partition| out.put_i32(partition));
    }
}

fn get_i16(input: &mut &[u8]) -> Option<i16> {
    (input.len() >= 2).then(|| input.get_i16())
}

fn get_i32(input: &mut &[u8]) -> Option<i32> {
    (input.len() >= 4).then(|| input.get_i32())
}

fn get_text(input: &mut &[u8]) -> Option<Arc<str>> {
    let len = usize::try_from(get_i16(input)?).ok()?;
    let (text, rest) = input.split_at_checked(len)?;
    *input = rest;
    std::str::from_utf8(text).ok().map(Arc::from)
}

fn skip_bytes(input: &mut &[u8]) -> Option<()> {
    let len = usize::try_from(get_i32(input)?.max(0)).ok()?;
    *input = input.get(len..)?;
    Some(())
}

fn get_partitions(input: &mut &[u8]) -> Option<Vec<TopicPartition>> {
    let mut found = Vec::new();
    for _ in 0..get_i32(input)?.max(0) {
        let topic = get_text(input)?;
        for _ in 0..get_i32(input)?.max(0) {
            found.push(TopicPartition { topic: topic.clone(), partition: get_i32(input)? });
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_and_assignments_are_read_back() {
        let owned = vec![TopicPartition::new("a", 3), TopicPartition::new("b", 0)];
        let subscription = Subscription { topics: vec!["a".into(), "b".into()], owned: owned.clone(), generation: -1 };
        let bytes = subscription.encode();
        assert_eq!(Subscription::decode(&bytes), Some(subscription));
        for len in 0..bytes.len() {
            assert_eq!(Subscription::decode(&bytes[..len]), None);
        }
        assert_eq!(decode_assignment(&encode_assignment(&owned)), Some(owned));
        assert_eq!(decode_assignment(&[]), Some(vec![]));
    }

    #[test]
    fn a_subscription_of_java_is_read() {
        // Version 3: topics ["t"], no user data, owns t/1, generation 7, no rack.
        let bytes = b"\0\x03\0\0\0\x01\0\x01t\xff\xff\xff\xff\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\x01\0\0\0\x07\xff\xff";
        let read = Subscription::decode(bytes).unwrap();
        assert_eq!(read.owned, vec![TopicPartition::new("t", 1)]);
        assert_eq!(read.generation, 7);
    }
}
