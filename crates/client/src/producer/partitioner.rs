//! Which partition a record goes to: with a key, the same as Java's clients choose (murmur2 of the key); without one, all
//! records go to one partition until its batch is on its way, then to the next, so that batches are large.

/// Java's `Utils.murmur2`: murmur hash 2 with a fixed seed, over little-endian words.
#[must_use]
pub(crate) fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    // Java's length is an int: only the lower 32 bits count.
    #[expect(clippy::cast_possible_truncation, reason = "as Java computes it")]
    let mut hash = SEED ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut word = u32::from_le_bytes(word.try_into().expect("four bytes")).wrapping_mul(M);
        word ^= word >> 24;
        hash = hash.wrapping_mul(M) ^ word.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (byte, shift) in rest.iter().zip([0, 8, 16]) {
            hash ^= u32::from(*byte) << shift;
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The partition of a key, of `count` partitions.
///
/// # Panics
/// When `count` is not positive.
#[must_use]
pub(crate) fn of_key(key: &[u8], count: i32) -> i32 {
    (murmur2(key) & 0x7fff_ffff).cast_signed() % count
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of Java's `Utils.murmur2`, as its own unit test lists them.
    #[test]
    fn hashes_are_those_of_java() {
        for (data, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(data.as_bytes()).cast_signed(), hash, "{data}");
        }
    }

    #[test]
    fn partitions_are_in_range() {
        for count in [1, 2, 7, 1000] {
            for key in 0..1000_u32 {
                assert!((0..count).contains(&of_key(&key.to_be_bytes(), count)));
            }
        }
    }
}
