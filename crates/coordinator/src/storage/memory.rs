//! A log in memory, for tests: it can hold appends back, refuse them, or leave open whether it stored them.

use std::collections::VecDeque;
use std::future::ready;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use records::Offset;
use tokio::sync::oneshot;

use super::{Entry, Page, Storage, StorageError, StoredEntry};

/// What becomes of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is stored and the caller told so.
    Stored,
    /// Nothing is stored, and the caller is told this error.
    Refused(StorageError),
    /// It is stored, and the caller is told [`StorageError::Unknown`].
    StoredUntold,
}

/// A log in memory. Clones of its `Arc` see the same log, as a restarted broker would.
#[derive(Debug)]
pub struct Memory {
    state: Mutex<State>,
    page: usize,
    append_bytes_max: usize,
}

/// An append that waits, and whom to tell.
type Held = (Vec<Entry>, oneshot::Sender<Result<Offset, StorageError>>);

#[derive(Debug, Default)]
struct State {
    entries: VecDeque<StoredEntry>,
    next: Offset,
    fates: VecDeque<Fate>,
    held: Option<VecDeque<Held>>,
    load_failures: VecDeque<StorageError>,
    truncate_failures: VecDeque<StorageError>,
    appends: usize,
}

impl Default for Memory {
    fn default() -> Self {
        Self { state: Mutex::default(), page: 1000, append_bytes_max: 1 << 20 }
    }
}

impl State {
    fn settle(&mut self, entries: Vec<Entry>) -> Result<Offset, StorageError> {
        self.appends += 1;
        let fate = self.fates.pop_front().unwrap_or(Fate::Stored);
        if let Fate::Refused(error) = fate {
            return Err(error);
        }
        let base = self.next;
        for entry in entries {
            self.entries.push_back(StoredEntry { offset: self.next, entry });
            self.next = self.next.after(1);
        }
        if fate == Fate::StoredUntold { Err(StorageError::Unknown) } else { Ok(base) }
    }
}

impl Memory {
    /// A log whose pages have this many records, and whose appends this many bytes at most.
    #[must_use]
    pub fn new(page: usize, append_bytes_max: usize) -> Self {
        Self { state: Mutex::default(), page, append_bytes_max }
    }

    /// What becomes of the next appends, in order; later ones are stored.
    pub fn decide(&self, fates: impl IntoIterator<Item = Fate>) {
        self.state.lock().fates.extend(fates);
    }

    /// From now on appends wait for `release`.
    pub fn hold(&self) {
        self.state.lock().held.get_or_insert_default();
    }

    /// Lets the oldest held append go on; false when there is none.
    pub fn release_one(&self) -> bool {
        let mut state = self.state.lock();
        let Some((entries, sender)) = state.held.as_mut().and_then(VecDeque::pop_front) else { return false };
        let result = state.settle(entries);
        // A shard that is gone does not hear it.
        let _ = sender.send(result);
        true
    }

    /// Lets all held appends go on, and later ones pass.
    pub fn release(&self) {
        while self.release_one() {}
        self.state.lock().held = None;
    }

    /// How many appends are held.
    pub fn held(&self) -> usize {
        self.state.lock().held.as_ref().map_or(0, VecDeque::len)
    }

    /// The next loads fail with these errors.
    pub fn fail_loads(&self, errors: impl IntoIterator<Item = StorageError>) {
        self.state.lock().load_failures.extend(errors);
    }

    /// The next truncations fail with these errors.
    pub fn fail_truncations(&self, errors: impl IntoIterator<Item = StorageError>) {
        self.state.lock().truncate_failures.extend(errors);
    }

    /// The records that the log holds.
    pub fn entries(&self) -> Vec<StoredEntry> {
        self.state.lock().entries.iter().cloned().collect()
    }

    /// How many records the log holds.
    pub fn len(&self) -> usize {
        self.state.lock().entries.len()
    }

    /// Whether the log holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of the records that the log holds.
    pub fn bytes(&self) -> usize {
        self.state.lock().entries.iter().map(|stored| stored.entry.size()).sum()
    }

    /// How many appends were settled.
    pub fn appends(&self) -> usize {
        self.state.lock().appends
    }

    /// Puts records into the log directly, as another broker would have.
    pub fn seed(&self, entries: impl IntoIterator<Item = Entry>) {
        let mut state = self.state.lock();
        for entry in entries {
            let offset = state.next;
            state.entries.push_back(StoredEntry { offset, entry });
            state.next = offset.after(1);
        }
    }
}

impl Storage for Memory {
    fn append(&self, entries: Vec<Entry>) -> BoxFuture<'_, Result<Offset, StorageError>> {
        let mut state = self.state.lock();
        if let Some(held) = &mut state.held {
            let (sender, receiver) = oneshot::channel();
            held.push_back((entries, sender));
            return async move { receiver.await.unwrap_or(Err(StorageError::Unknown)) }.boxed();
        }
        let result = state.settle(entries);
        ready(result).boxed()
    }

    fn load(&self, from: Offset) -> BoxFuture<'_, Result<Page, StorageError>> {
        let mut state = self.state.lock();
        if let Some(error) = state.load_failures.pop_front() {
            return ready(Err(error)).boxed();
        }
        let start = state.entries.partition_point(|stored| stored.offset < from);
        let entries: Vec<StoredEntry> = state.entries.iter().skip(start).take(self.page).cloned().collect();
        let last = start + entries.len() == state.entries.len();
        let next = match entries.last() {
            Some(stored) if !last => stored.offset.after(1),
            _ => state.next,
        };
        ready(Ok(Page { entries, next, last })).boxed()
    }

    fn truncate_before(&self, offset: Offset) -> BoxFuture<'_, Result<(), StorageError>> {
        let mut state = self.state.lock();
        if let Some(error) = state.truncate_failures.pop_front() {
            return ready(Err(error)).boxed();
        }
        let kept = state.entries.partition_point(|stored| stored.offset < offset);
        state.entries.drain(..kept);
        ready(Ok(())).boxed()
    }

    fn append_bytes_max(&self) -> usize {
        self.append_bytes_max
    }
}
