//! Whether a reader goes forward, and how far ahead of it to fetch. A plain state: the reader keeps one per partition.

use std::ops::Range;

use uuid::Uuid;

/// How many chunks are fetched ahead of a reader at most.
pub const READ_AHEAD_CHUNKS_MAX: u64 = 8;
/// A reader that went through so many chunks without a jump goes through much: what it reads is read once.
const SCAN_AFTER_CHUNKS: u64 = 8;

/// What one reader did last.
///
/// A read is sequential when it starts inside or at the end of the read before it, and ends after it. The first one that
/// is opens a window of one chunk; the window doubles with each further chunk that the reader enters, up to
/// [`READ_AHEAD_CHUNKS_MAX`]; any other read closes it. When the reader comes to another object, a window that was open
/// starts again with one chunk.
#[derive(Debug, Clone, Default)]
pub struct ReadAhead {
    object: Uuid,
    last: Range<u64>,
    window: u64,
    /// Chunks that it came through without a jump.
    passed: u64,
    /// Chunks below this number were asked for already.
    asked: u64,
}

impl ReadAhead {
    /// A reader that has read nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the reader goes through much more than others want again.
    pub(super) fn is_scan(&self) -> bool {
        self.passed >= SCAN_AFTER_CHUNKS
    }

    /// Notes a read of `range`, and says which chunks before `end`, at most `window_max`, to fetch ahead of the next.
    pub(super) fn note(
        &mut self,
        object: Uuid,
        range: Range<u64>,
        end: u64,
        chunk_bytes: u64,
        window_max: u64,
    ) -> Range<u64> {
        if range.is_empty() {
            return 0..0;
        }
        let last_chunk = |range: &Range<u64>| (range.end - 1) / chunk_bytes;
        let chunk = last_chunk(&range);
        if self.last.is_empty() || self.object != object {
            self.window = self.window.min(1);
            self.passed += self.window;
            self.asked = 0;
        } else if !(self.last.start..=self.last.end).contains(&range.start) {
            self.window = 0;
            self.passed = 0;
            self.asked = 0;
        } else if range.end > self.last.end {
            self.passed += chunk - last_chunk(&self.last);
            if self.window == 0 {
                self.window = 1;
            } else if chunk > last_chunk(&self.last) {
                self.window = (self.window * 2).min(window_max.min(READ_AHEAD_CHUNKS_MAX));
            }
        }
        self.object = object;
        self.last = range;
        let from = self.asked.max(chunk + 1);
        let to = (chunk + 1 + self.window).min(end.div_ceil(chunk_bytes));
        if from >= to {
            return 0..0;
        }
        self.asked = to;
        from..to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: u64 = 100;

    fn note(ahead: &mut ReadAhead, range: Range<u64>) -> Range<u64> {
        ahead.note(Uuid::from_u128(1), range, 10_000, CHUNK, READ_AHEAD_CHUNKS_MAX)
    }

    #[test]
    fn the_window_doubles_while_the_reader_is_sequential() {
        let mut ahead = ReadAhead::new();
        assert_eq!(note(&mut ahead, 0..100), 0..0, "one read is no sequence");
        assert_eq!(note(&mut ahead, 100..200), 2..3);
        assert_eq!(note(&mut ahead, 200..300), 3..5);
        assert_eq!(note(&mut ahead, 300..400), 5..8);
        assert_eq!(note(&mut ahead, 400..500), 8..13);
        assert_eq!(note(&mut ahead, 500..600), 13..14, "never more than 8 ahead");
        assert_eq!(note(&mut ahead, 590..601), 14..15, "a read may start inside of the last one");
        assert_eq!(note(&mut ahead, 590..601), 0..0, "nor is anything asked for twice");
    }

    #[test]
    fn a_jump_closes_the_window() {
        let mut ahead = ReadAhead::new();
        note(&mut ahead, 0..100);
        note(&mut ahead, 100..200);
        note(&mut ahead, 200..300);
        assert_eq!(note(&mut ahead, 5000..5100), 0..0);
        assert_eq!(note(&mut ahead, 100..200), 0..0, "backwards too");
        assert_eq!(note(&mut ahead, 200..300), 3..4, "and it opens again with one chunk");
    }

    #[test]
    fn small_reads_within_a_chunk_do_not_widen_the_window() {
        let mut ahead = ReadAhead::new();
        assert_eq!(note(&mut ahead, 0..10), 0..0);
        assert_eq!(note(&mut ahead, 10..20), 1..2);
        for start in 2..10 {
            assert_eq!(note(&mut ahead, start * 10..start * 10 + 10), 0..0);
        }
        assert_eq!(note(&mut ahead, 100..110), 2..4);
    }

    #[test]
    fn nothing_behind_the_end_is_asked_for() {
        let mut ahead = ReadAhead::new();
        let object = Uuid::from_u128(1);
        ahead.note(object, 0..100, 250, CHUNK, READ_AHEAD_CHUNKS_MAX);
        assert_eq!(ahead.note(object, 100..200, 250, CHUNK, READ_AHEAD_CHUNKS_MAX), 2..3);
        assert_eq!(ahead.note(object, 200..250, 250, CHUNK, READ_AHEAD_CHUNKS_MAX), 0..0);
        assert_eq!(ahead.note(object, 250..250, 250, CHUNK, READ_AHEAD_CHUNKS_MAX), 0..0);
    }

    #[test]
    fn the_next_object_starts_with_one_chunk() {
        let mut ahead = ReadAhead::new();
        note(&mut ahead, 0..100);
        note(&mut ahead, 100..200);
        note(&mut ahead, 200..300);
        let next = Uuid::from_u128(2);
        assert_eq!(ahead.note(next, 0..50, 10_000, CHUNK, READ_AHEAD_CHUNKS_MAX), 1..2);
    }
}
