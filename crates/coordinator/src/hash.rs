//! Which partition of the internal topic keeps a group: Java's `String.hashCode`, as Kafka's tools expect it.

/// The partition of `__consumer_offsets` that keeps the group: `Utils.abs(groupId.hashCode()) % partitions`.
///
/// # Panics
/// When `partitions` is not positive.
#[must_use]
pub fn partition_for(group: &str, partitions: i32) -> i32 {
    assert!(partitions > 0, "the internal topic has partitions");
    let hash = group.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // Kafka's `Utils.abs`: the one number without an absolute value becomes 0.
    hash.checked_abs().unwrap_or(0) % partitions
}

#[cfg(test)]
mod tests {
    use super::partition_for;

    #[test]
    fn groups_lie_where_java_puts_them() {
        // "abc".hashCode() is 96354.
        assert_eq!(partition_for("abc", 50), 96354 % 50);
        assert_eq!(partition_for("", 50), 0);
        // "polygenelubricants".hashCode() is Integer.MIN_VALUE.
        assert_eq!(partition_for("polygenelubricants", 50), 0);
        // Hash codes are over UTF-16 units: U+1F600 is D83D DE00.
        assert_eq!(partition_for("\u{1F600}", i32::MAX), 0xD83D * 31 + 0xDE00);
        // "hello world".hashCode() is 1794106052, that of "log_group" -2011137596.
        assert_eq!(partition_for("log_group", i32::MAX), 2_011_137_596);
        assert_eq!(partition_for("hello world", i32::MAX), 1_794_106_052);
    }
}
