//! Whether a reader goes forward, and how far ahead of it to fetch. A plain state: the reader keeps one per partition.

use std::ops::Range;

use uuid::Uuid;

/// How many chunks are fetched ahead of a reader at most.
const READ_AHEAD_CHUNKS_MAX: u64 = 16;
/// A reader that went through so many chunks without a jump goes through much: what it reads is read once.
const SCAN_AFTER_CHUNKS: u64 = 8;

/// A part of an object: where an extent lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) object: Uuid,
    pub(super) range: Range<u64>,
}

/// What one reader did last.
///
/// A read is sequential when it starts inside or at the end of the read before it, and ends after it, or when it is in the
/// part that was said to follow. The first one that is opens a window of one chunk; the window doubles with each further
/// chunk that the reader enters, up to sixteen, and reaches into the parts that follow; any other read
/// closes it. When the reader comes to an object that nobody announced, a window that was open starts again with one chunk.
#[derive(Debug, Clone, Default)]
pub struct ReadAhead {
    object: Uuid,
    last: Range<u64>,
    window: u64,
    /// Chunks that it came through without a jump.
    passed: u64,
    /// Of these objects, those that it is in and those that follow, the chunks below were asked for already.
    asked: Vec<(Uuid, u64)>,
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

    /// Notes a read of `range` within `part`, and says which chunks of it and of the parts that follow, at most
    /// `window_max`, to fetch ahead of the next.
    pub(super) fn note(
        &mut self,
        range: Range<u64>,
        part: &Part,
        following: &[Part],
        chunk_bytes: u64,
        window_max: u64,
    ) -> Vec<(Uuid, Range<u64>)> {
        if range.is_empty() {
            return Vec::new();
        }
        let window_max = window_max.min(READ_AHEAD_CHUNKS_MAX);
        let last_chunk = |range: &Range<u64>| (range.end - 1) / chunk_bytes;
        let chunk = last_chunk(&range);
        let was_announced = self.asked.iter().any(|(object, _)| *object == part.object);
        if self.object != part.object && was_announced && self.window > 0 {
            self.passed += 1;
            self.window = (self.window * 2).min(window_max);
        } else if self.last.is_empty() || self.object != part.object {
            self.window = self.window.min(1);
            self.passed += self.window;
            self.asked.clear();
        } else if !(self.last.start..=self.last.end).contains(&range.start) {
            self.window = 0;
            self.passed = 0;
            self.asked.clear();
        } else if range.end > self.last.end {
            self.passed += chunk - last_chunk(&self.last);
            if self.window == 0 {
                self.window = 1;
            } else if chunk > last_chunk(&self.last) {
                self.window = (self.window * 2).min(window_max);
            }
        }
        self.object = part.object;
        self.last = range;
        self.asked.retain(|(object, _)| *object == part.object || following.iter().any(|next| next.object == *object));
        let mut left = self.window;
        let mut fetches = Vec::new();
        let here = (chunk + 1) * chunk_bytes..part.range.end;
        for (object, range) in std::iter::once((part.object, here)).chain(following.iter().map(Part::as_range)) {
            let from = range.start / chunk_bytes;
            let to = range.end.div_ceil(chunk_bytes).min(from + left);
            if from < to {
                left -= to - from;
                fetches.extend(self.not_asked(object, from..to).map(|fresh| (object, fresh)));
            }
        }
        fetches
    }

    /// Those of these chunks that were not asked for before.
    fn not_asked(&mut self, object: Uuid, chunks: Range<u64>) -> Option<Range<u64>> {
        let at = match self.asked.iter().position(|(known, _)| *known == object) {
            Some(at) => at,
            None => {
                self.asked.push((object, 0));
                self.asked.len() - 1
            }
        };
        let asked = &mut self.asked[at].1;
        let fresh = chunks.start.max(*asked)..chunks.end;
        *asked = chunks.end.max(*asked);
        (!fresh.is_empty()).then_some(fresh)
    }
}

impl Part {
    fn as_range(&self) -> (Uuid, Range<u64>) {
        (self.object, self.range.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: u64 = 100;

    fn part(object: u128, range: Range<u64>) -> Part {
        Part { object: Uuid::from_u128(object), range }
    }

    /// What is fetched ahead in the first object, of which there is as much as anybody wants.
    fn note(ahead: &mut ReadAhead, range: Range<u64>) -> Range<u64> {
        let fetches = ahead.note(range, &part(1, 0..10_000), &[], CHUNK, READ_AHEAD_CHUNKS_MAX);
        assert!(fetches.len() <= 1, "{fetches:?}");
        fetches.first().map_or(0..0, |(_, chunks)| chunks.clone())
    }

    #[test]
    fn the_window_doubles_while_the_reader_is_sequential() {
        let mut ahead = ReadAhead::new();
        assert_eq!(note(&mut ahead, 0..100), 0..0, "one read is no sequence");
        assert_eq!(note(&mut ahead, 100..200), 2..3);
        assert_eq!(note(&mut ahead, 200..300), 3..5);
        assert_eq!(note(&mut ahead, 300..400), 5..8);
        assert_eq!(note(&mut ahead, 400..500), 8..13);
        assert_eq!(note(&mut ahead, 500..600), 13..22);
        assert_eq!(note(&mut ahead, 600..700), 22..23, "never more than 16 ahead");
        assert_eq!(note(&mut ahead, 690..701), 23..24, "a read may start inside of the last one");
        assert_eq!(note(&mut ahead, 690..701), 0..0, "nor is anything asked for twice");
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
        let mut note = |range| ahead.note(range, &part(1, 0..250), &[], CHUNK, READ_AHEAD_CHUNKS_MAX);
        note(0..100);
        assert_eq!(note(100..200), [(Uuid::from_u128(1), 2..3)]);
        assert_eq!(note(200..250), []);
        assert_eq!(note(250..250), []);
    }

    #[test]
    fn the_window_reaches_into_what_follows_and_stays_open_there() {
        let mut ahead = ReadAhead::new();
        let parts = [part(1, 0..300), part(2, 150..330), part(3, 0..10_000), part(4, 0..10_000)];
        let mut note = |range, at: usize| ahead.note(range, &parts[at], &parts[at + 1..], CHUNK, READ_AHEAD_CHUNKS_MAX);
        let id = |at: usize| parts[at].object;
        note(0..100, 0);
        assert_eq!(note(100..200, 0), [(id(0), 2..3)]);
        assert_eq!(note(200..300, 0), [(id(1), 1..3)]);
        assert_eq!(note(150..250, 1), [(id(1), 3..4), (id(2), 0..3)], "the window doubles there too");
        assert_eq!(note(250..330, 1), [(id(2), 3..8)]);
        assert_eq!(note(0..100, 2), [(id(2), 8..17)]);
    }

    #[test]
    fn an_object_that_nobody_announced_starts_with_one_chunk() {
        let mut ahead = ReadAhead::new();
        note(&mut ahead, 0..100);
        note(&mut ahead, 100..200);
        note(&mut ahead, 200..300);
        let next = part(2, 0..10_000);
        assert_eq!(ahead.note(0..50, &next, &[], CHUNK, READ_AHEAD_CHUNKS_MAX), [(next.object, 1..2)]);
    }
}
