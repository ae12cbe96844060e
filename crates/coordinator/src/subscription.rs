//! The topics in a consumer's metadata (`ConsumerProtocolSubscription`).
//!
//! Groups treat metadata as opaque, with one exception that Kafka makes too: for protocol type `consumer` the topics are
//! read, so that offsets of topics that a group reads are not deleted or expired.

use std::collections::BTreeSet;
use std::sync::Arc;

/// The protocol type whose metadata is understood.
pub(crate) const CONSUMER: &str = "consumer";

/// The topics of one member's metadata; `None` when it cannot be read.
pub(crate) fn topics(metadata: &[u8]) -> Option<Vec<&str>> {
    // int16 version, array of strings, then what later versions added.
    let (version, rest) = metadata.split_first_chunk::<2>()?;
    if i16::from_be_bytes(*version) < 0 {
        return None;
    }
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let mut topics = Vec::new();
    for _ in 0..u32::try_from(i32::from_be_bytes(*count)).ok()? {
        let (len, after) = rest.split_first_chunk::<2>()?;
        let len = usize::try_from(i16::from_be_bytes(*len)).ok()?;
        let (name, after) = after.split_at_checked(len)?;
        topics.push(std::str::from_utf8(name).ok()?);
        rest = after;
    }
    Some(topics)
}

/// The topics of all members; `None` when one's cannot be read.
pub(crate) fn union<'a>(members: impl Iterator<Item = &'a [u8]>) -> Option<BTreeSet<Arc<str>>> {
    let mut all = BTreeSet::new();
    for metadata in members {
        for topic in topics(metadata)? {
            if !all.contains(topic) {
                all.insert(Arc::from(topic));
            }
        }
    }
    Some(all)
}

/// Whether two metadata name the same topics; unreadable ones count as the same.
pub(crate) fn same_topics(one: &[u8], other: &[u8]) -> bool {
    let (Some(one), Some(other)) = (topics(one), topics(other)) else { return true };
    one.into_iter().collect::<BTreeSet<_>>() == other.into_iter().collect::<BTreeSet<_>>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(names: &[&str]) -> Vec<u8> {
        let mut bytes = vec![0, 1];
        bytes.extend(i32::try_from(names.len()).unwrap().to_be_bytes());
        for name in names {
            bytes.extend(i16::try_from(name.len()).unwrap().to_be_bytes());
            bytes.extend(name.as_bytes());
        }
        bytes.extend([0xFF; 4]); // no user data
        bytes
    }

    #[test]
    fn topics_are_read_and_the_rest_is_not() {
        assert_eq!(topics(&subscription(&["a", "log_topic"])), Some(vec!["a", "log_topic"]));
        assert_eq!(topics(&subscription(&[])), Some(vec![]));
    }

    #[test]
    fn what_is_no_subscription_is_unreadable() {
        for bytes in [&b""[..], b"\0\0", b"\0\0\x7F\xFF\xFF\xFF", b"\0\0\0\0\0\x01\0\x05ab", b"\0\0\xFF\xFF\xFF\xFF"] {
            assert_eq!(topics(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn the_order_of_topics_does_not_matter() {
        assert!(same_topics(&subscription(&["a", "b"]), &subscription(&["b", "a"])));
        assert!(!same_topics(&subscription(&["a", "b"]), &subscription(&["a"])));
        assert!(same_topics(b"opaque", &subscription(&["a"])));
    }
}
