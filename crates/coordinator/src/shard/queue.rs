//! What waits to be stored, cut into appends.
//!
//! A change larger than an append is cut over several; it is settled with the last piece.

use std::collections::VecDeque;
use std::sync::Arc;
use std::vec;

use crate::group::{Store, Ticket};
use crate::storage::Entry;

/// Changes in the order in which they must be stored.
#[derive(Debug, Default)]
pub(super) struct Queue {
    changes: VecDeque<Queued>,
    /// Of all that was pushed and not settled.
    bytes: usize,
}

#[derive(Debug)]
struct Queued {
    end: End,
    entries: vec::IntoIter<Entry>,
    largest: usize,
}

/// A change whose last record is in an append.
#[derive(Debug)]
pub(super) struct End {
    pub(super) group: Arc<str>,
    pub(super) ticket: Ticket,
    /// It belongs to a rewriting.
    pub(super) rewrite: bool,
    /// Its first records are in an earlier append.
    pub(super) continued: bool,
}

/// One append.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bytes: usize,
    pub(super) count: usize,
    /// The changes that end in it.
    pub(super) ends: Vec<End>,
    /// The last change goes on in the next append.
    pub(super) cut: bool,
    /// It holds a change that cannot be stored, and nothing else.
    pub(super) too_large: bool,
}

impl Queue {
    pub(super) fn push(&mut self, store: Store, rewrite: bool) {
        let Store { group, ticket, entries } = store;
        self.bytes += entries.iter().map(Entry::size).sum::<usize>();
        let largest = entries.iter().map(Entry::size).max().unwrap_or(0);
        let end = End { group, ticket, rewrite, continued: false };
        self.changes.push_back(Queued { end, entries: entries.into_iter(), largest });
    }

    /// Of all that waits or is under way.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        self.changes.is_empty()
    }

    /// An append was settled.
    pub(super) fn settled(&mut self, batch: &Batch) {
        self.bytes -= batch.bytes;
    }

    /// The next append, of at most so many bytes.
    pub(super) fn next(&mut self, bytes_max: usize) -> Option<(Batch, Vec<Entry>)> {
        let mut batch = Batch::default();
        let mut entries = Vec::new();
        while let Some(front) = self.changes.front_mut() {
            if front.largest > bytes_max {
                if batch.count == 0 {
                    let refused = self.changes.pop_front().expect("just seen");
                    batch.bytes = refused.entries.as_slice().iter().map(Entry::size).sum();
                    batch.too_large = true;
                    batch.ends.push(refused.end);
                }
                break;
            }
            let before = entries.len();
            while let Some(entry) = front.entries.as_slice().first() {
                if batch.bytes + entry.size() > bytes_max {
                    break;
                }
                batch.bytes += entry.size();
                entries.extend(front.entries.next());
            }
            batch.count = entries.len();
            if !front.entries.as_slice().is_empty() {
                // With none of its records here it has not begun.
                batch.cut = front.end.continued || entries.len() > before;
                front.end.continued = batch.cut;
                break;
            }
            batch.ends.extend(self.changes.pop_front().map(|change| change.end));
        }
        if batch.ends.is_empty() && entries.is_empty() { None } else { Some((batch, entries)) }
    }
}
